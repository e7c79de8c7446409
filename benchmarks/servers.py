"""The processes under measurement: TabAgent, llama-server and the raw decode loop."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.clients import Sse, stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT = 120.0


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The libllama that every contestant runs on, and the llama-server beside it."""

    id: str
    variant: str
    version: str
    libllama: Path
    cpu_module: Path
    llama_server: Path


@dataclasses.dataclass(frozen=True)
class Server:
    """A started server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    launched: float
    ready: float

    @property
    def start_seconds(self) -> float:
        """From the launch until `/health` said 200."""
        return self.ready - self.launched

    def rss_mb(self, field: str = "VmHWM") -> float:
        """Resident memory in MB: `VmHWM` is the peak, `VmRSS` the present."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024


@contextlib.contextmanager
def tabagent(*flags: str) -> Iterator[Server]:
    """Run `tabagent serve` with those flags."""
    with _serve("TabAgent", [sys.executable, "-m", "tabagent", "serve", *flags]) as server:
        yield server


@contextlib.contextmanager
def llama_server(
    runtime: Runtime, model: Path, threads: int, parallel: int, context: int
) -> Iterator[Server]:
    """Run llama-server on the same model, threads and context per request."""
    command = [
        str(runtime.llama_server), "--model", str(model), "--threads", str(threads),
        "--threads-batch", str(threads), "--parallel", str(parallel),
        "--ctx-size", str(context * parallel), "--n-gpu-layers", "0", "--no-webui",
        "--host", "127.0.0.1", "--log-disable",
    ]  # fmt: skip
    with _serve("llama-server", command) as server:
        yield server


def raw_loop(
    runtime: Runtime, model: Path, *, threads: int, prompt: int, tokens: int, streams: int
) -> dict[str, Any]:
    """Run the greedy decode loop of the engine's example and return its figures."""
    command = [
        str(ROOT / "engine_rs/target/release/examples/raw_loop"),
        "--libllama", str(runtime.libllama), "--cpu-module", str(runtime.cpu_module),
        "--model", str(model), "--threads", str(threads), "--prompt", str(prompt),
        "--gen", str(tokens), "--streams", str(streams),
    ]  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def first_token_after_start(server: Server, prompt: str) -> float:
    """Seconds from a server's launch to its first token."""
    return stream(Sse(), server.port, [prompt], 1)[0].first - server.launched


def first_token_after_load(server: Server, model: str, prompt: str) -> float:
    """Seconds from asking a running TabAgent to load a model to its first token."""
    asked = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with contextlib.closing(connection):
        body = json.dumps({"model": model})
        connection.request("POST", "/v1/models/load", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(reply.read().decode(errors="replace"))
    return stream(Sse(), server.port, [prompt], 1)[0].first - asked


@contextlib.contextmanager
def _serve(name: str, command: Sequence[str]) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launched = time.monotonic()
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        _wait_until_healthy(process, port)
        yield Server(name, port, process, launched, time.monotonic())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as probe:
            probe.sendall(request)
            if b" 200 " in probe.recv(64):
                return
        time.sleep(0.005)
    raise TimeoutError(f"{process.args!r} was not ready in time")
