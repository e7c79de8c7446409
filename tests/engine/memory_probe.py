"""Loads a model in a process of its own and prints what it took of memory, as JSON.

Arguments: a small model that opens the runtime first, the model to measure, tokens per request.
What is measured is anonymous memory, so the weights are read and not mapped.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from tabagent_engine import EngineError, GgufEngine


def anonymous_bytes() -> int:
    """What the kernel counts as this process's own, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell")


def read_a_prompt(model: str, ctx_size: int) -> tuple[int, GgufEngine]:
    """Open the model, read a prompt of more than one batch; return what was expected."""
    reader, writer = socket.socketpair()
    with reader, writer:
        engine = GgufEngine.open(
            model, wake_fd=writer.fileno(), ctx_size=ctx_size, parallel=4, mmap=False
        )
        prompt = [3 + index % 200 for index in range(min(600, ctx_size - 16))]
        engine.submit(1, prompt, credit=100, max_tokens=4, temperature=0.0, ignore_eos=True)
        while not any(event[0] in ("finished", "failed") for event in engine.drain()):
            reader.recv(64)
    return engine.info["expected_bytes"], engine


def main(opener: str, model: str, ctx_size: str) -> None:
    """Measure one model."""
    _, first = read_a_prompt(opener, 256)
    first.close()
    before = anonymous_bytes()
    try:
        expected, engine = read_a_prompt(model, int(ctx_size))
    except EngineError as error:
        found: dict[str, object] = {"code": error.code, "message": str(error)}
    else:
        found = {"expected": expected, "measured": anonymous_bytes() - before}
        engine.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
