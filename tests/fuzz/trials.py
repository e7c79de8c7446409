"""The child of a campaign: loads file after file in the real engine and says how each one ended.

Takes a runtime as its argument, else the best. Reads one path per line, answers one line each:
`ran`, or the code of the refusal and the message.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from tabagent_engine import EngineError, GgufEngine
from tabagent_engine._native import prune_transcoded

TEXT = "Hé <s>\n 12 😀\0<|im_start|>" + " the" * 8
MESSAGES = '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi \\u00e9"}]'
TOKENS = 4
CONTEXT = 128


def trial(path: str, runtime: str | None) -> str:
    """Judge, load, tokenise, render, decode a few tokens of two requests at once, unload."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            engine = GgufEngine.open(
                path,
                wake_fd=theirs.fileno(),
                runtime=runtime,
                ctx_size=CONTEXT,
                parallel=2,
                threads=1,
            )
        except EngineError as error:
            return f"{error.code} {error}"
        try:
            return _use(engine, ours)
        finally:
            engine.close()
            prune_transcoded(0)


def _use(engine: GgufEngine, wakeups: socket.socket) -> str:
    last = engine.info["vocab_size"] - 1
    engine.detokenize([0, 1, 2, last])
    engine.submit(1, TEXT, credit=TOKENS, max_tokens=TOKENS, temperature=0.0, logprobs=2)
    engine.submit(2, None, messages=MESSAGES, credit=TOKENS, max_tokens=TOKENS, seed=1)
    engine.submit(3, [0, last], credit=TOKENS, max_tokens=TOKENS, ignore_eos=True, seed=1)
    ends: dict[int, str] = {}
    while len(ends) < 3:
        select.select([wakeups], [], [])
        wakeups.recv(64)
        for event in engine.drain():
            if event[0] == "finished":
                ends[event[1]] = "ran"
            elif event[0] == "failed":
                ends[event[1]] = f"{event[2]} {event[3]}"
    failures = sorted(end for end in ends.values() if end != "ran")
    return f"ran, {failures[0]}" if failures else "ran"


def main() -> None:
    # The library may write to standard output: answers go where nothing else writes.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    runtime = sys.argv[1] if len(sys.argv) > 1 else None
    for line in sys.stdin:
        answers.write(" ".join(trial(line.rstrip("\n"), runtime).split()) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
