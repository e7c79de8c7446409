"""Runs the comparison: `python -m benchmarks [--quick] [--write]`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import report, rounds
from benchmarks.models import SHAPES, write_model
from benchmarks.runtime import find_runtime

# Tokens of one answer, by model and number of streams: long enough that a round's figures are
# steady, short enough for ten rounds. On the tiny model eight long answers would measure attention.
TOKENS = {
    "tiny": {1: 800, rounds.PARALLEL: 200},
    "0.5B-Q4_0": {1: 40, rounds.PARALLEL: 40},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of ten")
    parser.add_argument("--rounds", type=int, default=None, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of everybody")
    parser.add_argument("--models", nargs="*", default=[shape.name for shape in SHAPES])
    parser.add_argument("--write", action="store_true", help="update benchmarks/README.md")
    arguments = parser.parse_args()
    count = arguments.rounds or (3 if arguments.quick else 10)

    folder = Path(tempfile.gettempdir()) / "tabagent-benchmarks"
    folder.mkdir(exist_ok=True)
    runtime = find_runtime()
    parts = [report.heading(runtime)]
    print(parts[0], flush=True)
    for shape in SHAPES:
        if shape.name not in arguments.models:
            continue
        model = write_model(shape, folder)
        plan = rounds.Plan(model, arguments.threads, count, TOKENS[shape.name])
        parts.append(report.table(plan, rounds.measure(plan, runtime)))
        print(f"\n{parts[-1]}", flush=True)
    parts.append(report.idle_table(rounds.measure_idle(min(count, 5))))
    print(f"\n{parts[-1]}")
    if arguments.write:
        report.write(Path(__file__).with_name("README.md"), "\n\n".join(parts))


if __name__ == "__main__":
    main()
