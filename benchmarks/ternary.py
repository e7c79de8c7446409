"""Measures ternary models: `python -m benchmarks.ternary [--rounds N] [--threads N] [--write]`.

Two engines of one process take turns, a few tokens each time, so that what else the machine does
hits both alike. Compared are a transcoded I2_S file with the same weights as a TQ2_0 file that
libllama loads by itself, and the graph of BitNet-b1.58-2B-4T with the same graph as libllama
computes it: with SiLU instead of squared ReLU.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tabagent_engine import GgufEngine

from benchmarks import report
from benchmarks.rounds import Samples
from benchmarks.runtime import find_runtime
from benchmarks.ternary_models import SHAPE, write_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.servers import Runtime
    from benchmarks.ternary_models import Pair

PROMPT_TOKENS = 128
BURSTS, BURST = 16, 8
"""An answer's turns, and the tokens of each."""
TIMEOUT = 300.0

PEER, OURS = "peer", "TabAgent"
ANSWER, ANSWER_CPU = "answer, tokens/s", "answer, tokens per CPU-second"
PROMPT, PROMPT_CPU = "prompt, tokens/s", "prompt, tokens per CPU-second"
TITLES = {
    "llama": "llama graph, I2_S transcoded / native TQ2_0",
    "bitnet": "2B-4T graph, squared ReLU / SiLU",
}


class Contestant:
    """One loaded model, which answers one prompt at a time."""

    def __init__(self, path: Path, runtime: Runtime, threads: int) -> None:
        self._wakeups, engine_end = socket.socketpair()
        with engine_end:
            self._engine = GgufEngine.open(
                path,
                wake_fd=engine_end.fileno(),
                runtime=runtime.id,
                ctx_size=PROMPT_TOKENS + BURSTS * BURST + 1,
                parallel=1,
                threads=threads,
            )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeups, selectors.EVENT_READ)
        self._requests = 0

    def read(self, prompt: list[int]) -> dict[str, float]:
        """Read a prompt, produce the first token of its answer, and return the rates."""
        self._requests += 1
        started, cpu = time.perf_counter(), time.process_time()
        self._engine.submit(
            self._requests,
            prompt,
            credit=1,
            max_tokens=1 + BURSTS * BURST,
            temperature=0,
            ignore_eos=True,
        )
        self._await_tokens(1)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        return {PROMPT: len(prompt) / seconds, PROMPT_CPU: len(prompt) / cpu_seconds}

    def go_on(self) -> dict[str, float]:
        """Produce a burst of tokens and return the rates."""
        started, cpu = time.perf_counter(), time.process_time()
        self._engine.grant(self._requests, BURST)
        self._await_tokens(BURST)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        return {ANSWER: BURST / seconds, ANSWER_CPU: BURST / cpu_seconds}

    def close(self) -> None:
        """Unload the model."""
        self._engine.close()
        self._selector.close()
        self._wakeups.close()

    def _await_tokens(self, count: int) -> None:
        while count:
            if not self._selector.select(TIMEOUT):
                raise TimeoutError("no answer within the time limit")
            self._wakeups.recv(16)
            for event in self._engine.drain():
                if event[0] == "failed":
                    raise RuntimeError(event[3])
                if event[0] == "delta":
                    count -= len(event[3])


def measure(pair: Pair, runtime: Runtime, threads: int, rounds: int) -> Samples:
    """Let the two models of a pair take turns; the first round is not counted."""
    samples = Samples()
    prompts = _prompts()
    contestants = [
        (PEER, Contestant(pair.native, runtime, threads)),
        (OURS, Contestant(pair.transcoded, runtime, threads)),
    ]
    for number in range(rounds + 1):
        turns: list[Callable[[Contestant], dict[str, float]]] = [
            lambda contestant: contestant.read(next(prompts)),
            *[Contestant.go_on] * BURSTS,
        ]
        for turn, take in enumerate(turns):
            for name, contestant in contestants[:: -1 if (number + turn) % 2 else 1]:
                for quantity, rate in take(contestant).items():
                    if number:
                        samples.add(quantity, name, rate)
    for _, contestant in contestants:
        contestant.close()
    return samples


def _prompts() -> Iterator[list[int]]:
    """Prompts that share no prefix, so that no cache of a former one helps."""
    rng = np.random.default_rng(5)
    while True:
        yield rng.integers(300, SHAPE.vocab, PROMPT_TOKENS).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ternary", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="answers of each model")
    parser.add_argument("--threads", type=int, default=1, help="compute threads")
    parser.add_argument("--write", action="store_true", help="update benchmarks/README.md")
    arguments = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "tabagent-benchmarks"
    folder.mkdir(exist_ok=True)
    runtime = find_runtime()
    # What is transcoded stays beside the models, out of the user's cache.
    os.environ["TABAGENT_HOME"] = str(folder / "home")
    plan = f"{arguments.threads} thread{'s' * (arguments.threads > 1)}, {arguments.rounds} rounds"
    lengths = f"prompts of {PROMPT_TOKENS} tokens, answers of {BURSTS * BURST}"
    lines = [
        f"{report.heading(runtime)} Per model {plan}, {lengths}.",
        "",
        "| | peer | TabAgent | TabAgent / peer |",
        "|---|---|---|---|",
    ]
    for graph, pair in write_models(folder).items():
        lines += rows(TITLES[graph], measure(pair, runtime, arguments.threads, arguments.rounds))
    print("\n".join(lines))
    if arguments.write:
        report.write(Path(__file__).with_name("README.md"), "\n".join(lines), "ternary")


def rows(title: str, samples: Samples) -> list[str]:
    """The Markdown lines of one comparison: medians, and the median of the rounds' ratios."""
    lines = []
    for quantity in (ANSWER, ANSWER_CPU, PROMPT, PROMPT_CPU):
        peer, ours = (samples.median(quantity, name) for name in (PEER, OURS))
        ratio = samples.ratio(quantity, OURS, PEER)
        lines.append(f"| {title}: {quantity} | {peer:.1f} | {ours:.1f} | {ratio:.3f} |")
    return lines


if __name__ == "__main__":
    main()
