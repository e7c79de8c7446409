"""Interleaved rounds: every contestant once per round, so that noise hits all alike."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

from benchmarks import servers
from benchmarks.clients import Dialect, Sse, WebSocket, stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.servers import Runtime, Server

PARALLEL = 8
CONTEXT = 2048
PROMPT_TOKENS = 32

RAW, SSE, WS, BASELINE = "raw loop", "TabAgent SSE", "TabAgent WS", "llama-server"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much to measure on one model."""

    model: Path
    threads: int
    rounds: int
    tokens: dict[int, int]
    """Tokens of one answer, by the number of streams."""


class Samples:
    """Figures by (quantity, contestant), one per round."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, quantity: str, contestant: str, value: float) -> None:
        self._values[quantity, contestant].append(value)

    def median(self, quantity: str, contestant: str) -> float | None:
        values = self._values.get((quantity, contestant))
        return statistics.median(values) if values else None

    def ratio(self, quantity: str, contestant: str, peer: str) -> float | None:
        """The median over rounds of contestant / peer, pair by pair."""
        ours, theirs = self._values.get((quantity, contestant)), self._values.get((quantity, peer))
        if not ours or not theirs or len(ours) != len(theirs):
            return None
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


ONE, MANY, FIRST, START, LOAD, PEAK = (
    "tokens/s, 1 stream",
    f"tokens/s, {PARALLEL} streams, prompts included",
    "first token, ms",
    "start to first token, s",
    "load to first token, s",
    "peak RSS, MB",
)


def measure(plan: Plan, runtime: Runtime) -> Samples:
    """Measure all contestants on one model."""
    samples = Samples()
    words = _prompts()
    for _ in range(max(3, plan.rounds // 3)):
        _measure_starts(plan, runtime, samples, next(words))
    with _both(plan, runtime) as (ours, theirs):
        contestants: list[tuple[str, Dialect, Server]] = [
            (SSE, Sse(), ours), (WS, WebSocket(), ours), (BASELINE, Sse(), theirs),
        ]  # fmt: skip
        for _, dialect, server in contestants:  # warm-up, not counted
            stream(dialect, server.port, [next(words)], 8)
        for number in range(plan.rounds):
            _measure_raw(plan, runtime, samples)
            # The order turns each round, so that nobody always runs after the same one.
            turn = number % len(contestants)
            for name, dialect, server in contestants[turn:] + contestants[:turn]:
                _measure_streams(plan, samples, name, dialect, server.port, words)
        samples.add(PEAK, SSE, ours.rss_mb())
        samples.add(PEAK, BASELINE, theirs.rss_mb())
    return samples


def measure_idle(rounds: int) -> Samples:
    """Start-up time and resident memory of a server without a model."""
    samples = Samples()
    for _ in range(rounds):
        with servers.tabagent("--no-model") as server:
            samples.add("start to ready, s", SSE, server.start_seconds)
            samples.add("idle RSS, MB", SSE, server.rss_mb("VmRSS"))
    return samples


def _measure_starts(plan: Plan, runtime: Runtime, samples: Samples, prompt: str) -> None:
    with _tabagent(plan, runtime, "--model", str(plan.model)) as server:
        samples.add(START, SSE, servers.first_token_after_start(server, prompt))
    with _tabagent(plan, runtime, "--no-model", "--models-dir", str(plan.model.parent)) as server:
        samples.add(LOAD, SSE, servers.first_token_after_load(server, plan.model.stem, prompt))
    with servers.llama_server(runtime, plan.model, plan.threads, PARALLEL, CONTEXT) as server:
        spawned = servers.first_token_after_start(server, prompt)
        samples.add(START, BASELINE, spawned)
        # Whoever runs models in subprocesses loads one by starting one.
        samples.add(LOAD, BASELINE, spawned)


def _measure_raw(plan: Plan, runtime: Runtime, samples: Samples) -> None:
    for quantity, streams in ((ONE, 1), (MANY, PARALLEL)):
        figures = servers.raw_loop(
            runtime,
            plan.model,
            threads=plan.threads,
            prompt=PROMPT_TOKENS,
            tokens=plan.tokens[streams],
            streams=streams,
        )
        samples.add(quantity, RAW, figures["generate_tps" if streams == 1 else "overall_tps"])
        if streams == 1:
            samples.add(FIRST, RAW, figures["first_token_s"] * 1000)


def _measure_streams(
    plan: Plan, samples: Samples, name: str, dialect: Dialect, port: int, words: Iterator[str]
) -> None:
    alone, each = plan.tokens[1], plan.tokens[PARALLEL]
    (answer,) = stream(dialect, port, [next(words)], alone)
    samples.add(FIRST, name, answer.first_token_ms)
    samples.add(ONE, name, (alone - 1) / (answer.ended - answer.first))
    answers = stream(dialect, port, [next(words) for _ in range(PARALLEL)], each)
    # From the requests on, because servers read several prompts in different orders.
    span = max(answer.ended for answer in answers) - min(answer.started for answer in answers)
    samples.add(MANY, name, PARALLEL * each / span)


def _tabagent(
    plan: Plan, runtime: Runtime, *models: str
) -> contextlib.AbstractContextManager[Server]:
    return servers.tabagent(
        *models, "--runtime", runtime.id, "--threads", str(plan.threads),
        "--parallel", str(PARALLEL), "--ctx-size", str(CONTEXT),
    )  # fmt: skip


@contextlib.contextmanager
def _both(plan: Plan, runtime: Runtime) -> Iterator[tuple[Server, Server]]:
    """Run both servers side by side; the one that is not asked sleeps."""
    with (
        _tabagent(plan, runtime, "--model", str(plan.model)) as ours,
        servers.llama_server(runtime, plan.model, plan.threads, PARALLEL, CONTEXT) as theirs,
    ):
        yield ours, theirs


def _prompts() -> Iterator[str]:
    """Prompts that share no prefix, so that no cache of a former one helps."""
    number = 0
    while True:
        start = number * (PROMPT_TOKENS - 1)
        yield "".join(f" w{(start + offset) % 200}" for offset in range(PROMPT_TOKENS - 1))
        number += 1
