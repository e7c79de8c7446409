"""Lists the GPUs that a runtime finds, in a process of its own.

A process has one runtime for its whole life, and opening one runs the code of GPU drivers: neither
is for a process that only wants to know. `python -m tabagent_engine.gpus ID` prints them as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final, cast

from tabagent_engine.errors import EngineError

if TYPE_CHECKING:
    from tabagent_engine.types import GpuDevice

__all__ = ["gpu_devices"]

PATIENCE: Final = 20.0
"""Seconds that drivers get."""


def gpu_devices(runtime: str) -> list[GpuDevice]:
    """The GPUs that the runtime of a path or id can put layers on; blocks.

    Raises EngineError: `library_not_found` when there is no such runtime, or its GPU modules cannot
    be loaded; `invalid_parameter` when these find no device; `model_load_failed` when a driver
    crashes or hangs.
    """
    command = [sys.executable, "-P", "-m", "tabagent_engine.gpus", runtime]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineError("model_load_failed", "the GPU driver does not answer") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        message = f"the GPU driver ended the process that asked it ({done.returncode})"
        raise EngineError("model_load_failed", message) from None
    if "error" in answer:
        raise EngineError(*answer["error"])
    return cast("list[GpuDevice]", answer["devices"])


def main() -> None:
    """Print the devices, or why there are none, as JSON."""
    from tabagent_engine._native import list_gpus

    try:
        answer: dict[str, object] = {"devices": list_gpus(sys.argv[1])}
    except EngineError as error:
        answer = {"error": [error.code, str(error)]}
    print(json.dumps(answer))  # noqa: T201


if __name__ == "__main__":
    main()
