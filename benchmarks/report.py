"""The benchmark's table: medians, and ratios pair by pair."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rounds import BASELINE, FIRST, LOAD, MANY, ONE, PEAK, RAW, SSE, START, WS

if TYPE_CHECKING:
    from benchmarks.rounds import Plan, Samples
    from benchmarks.servers import Runtime


def machine() -> str:
    """The machine's name as its CPU and core count."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def heading(runtime: Runtime) -> str:
    """What was measured, where and when."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{machine()}, {today}. All on the same libllama: `{runtime.id}` {runtime.version} "
        f"({runtime.variant})."
    )


def table(plan: Plan, samples: Samples) -> str:
    """The Markdown table of one model."""
    name, threads = (
        plan.model.stem.removeprefix("bench-"),
        "threads" if plan.threads > 1 else "thread",
    )
    tokens = ", ".join(
        f"{count} tokens" if streams == 1 else f"{streams} × {count} tokens"
        for streams, count in plan.tokens.items()
    )
    lines = [
        f"### {name}: {plan.threads} {threads}, {tokens}, {plan.rounds} rounds",
        "",
        f"| | {RAW} | {SSE} | {WS} | {BASELINE} | SSE / raw | WS / raw | SSE / {BASELINE} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for quantity in (ONE, MANY, FIRST, START, LOAD, PEAK):
        figures = [_number(samples.median(quantity, who)) for who in (RAW, SSE, WS, BASELINE)]
        ratios = [
            _number(samples.ratio(quantity, ours, peer), digits=3)
            for ours, peer in ((SSE, RAW), (WS, RAW), (SSE, BASELINE))
        ]
        lines.append(f"| {quantity} | " + " | ".join(figures + ratios) + " |")
    return "\n".join(lines)


def idle_table(samples: Samples) -> str:
    """The Markdown lines of the server without a model."""
    ready = _number(samples.median("start to ready, s", SSE))
    idle = _number(samples.median("idle RSS, MB", SSE))
    return f"Without a model: ready {ready} s after the launch, {idle} MB resident."


def write(path: Path, text: str, name: str = "table") -> None:
    """Put `text` between the marks of that name in the file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = path.read_text().split(begin, 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"
