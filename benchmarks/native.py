"""Measures Native Messaging through the shim: `python -m benchmarks.native`.

The server is `tabagent serve`; its protocol answers each `tabagent.ping`. The named peers, in the
same run: a bare `python -IS` for the start, the server's socket without the shim for the rest.
"""

from __future__ import annotations

import os
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from tabagent_native import NativeListener, endpoint, handshake
from tabagent_native.framing import encode_frame
from tabagent_native.install import Host, HostFolders
from tabagent_native.manifest import Extensions

EXTENSION = "abcdefghijklmnopabcdefghijklmnop"
ORIGIN = f"chrome-extension://{EXTENSION}/"
PING = encode_frame(b'{"type":"tabagent.ping"}')

STARTS = 25
ROUND_TRIPS = 2_000
BURST = 50_000
WINDOW = 50
"""Pings under way at once in a burst; a session answers no more unread ones than 64."""

Pipe = tuple[IO[bytes], IO[bytes]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "config.toml").write_text('model = ["echo:x"]\nport = 0\nlog_level = "warning"\n')
        folders = HostFolders(root / "host", root, root / "user", root / "user", str(root))
        host = Host(folders, "linux", sys.executable)
        host.install(Extensions.parse([EXTENSION]))
        try:
            print(measure(host, root / "run"))
        finally:
            server = NativeListener.find_server(root / "run")
            if server is not None:
                os.kill(server.pid, signal.SIGTERM)
                while NativeListener.find_server(root / "run"):
                    time.sleep(0.05)


def measure(host: Host, run: Path) -> str:
    first_reply(host)  # starts the server
    bare, shim = [], []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-IS", "-c", ""], check=True)
        bare.append(time.perf_counter() - begin)
        shim.append(first_reply(host))
    process = start(host)
    assert process.stdin is not None
    assert process.stdout is not None
    connected = endpoint.connect(run)
    handshake.greet(connected)
    connected.socket.settimeout(None)
    with (
        process,
        connected.socket.makefile("rb") as reader,
        connected.socket.makefile("wb") as writer,
    ):
        through, direct = (process.stdin, process.stdout), (writer, reader)
        trips = [[round_trip(pipe) for _ in range(ROUND_TRIPS)] for pipe in (through, direct)]
        rates = [burst(pipe) for pipe in (through, direct)]
        process.stdin.close()
    connected.socket.close()
    rows = [
        ("start to first reply, p50", ms(shim), f"bare interpreter {ms(bare)}"),
        ("round trip, p50", ms(trips[0]), f"without the shim {ms(trips[1])}"),
        ("small messages answered", f"{rates[0]:,.0f}/s", f"without the shim {rates[1]:,.0f}/s"),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def start(host: Host) -> subprocess.Popen[bytes]:
    command = [str(host.launcher), ORIGIN]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def first_reply(host: Host) -> float:
    """Return the seconds from the start of the host to its first answer."""
    begin = time.perf_counter()
    with start(host) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        seconds = round_trip((process.stdin, process.stdout), begin)
        process.stdin.close()
        return seconds


def round_trip(pipe: Pipe, begin: float | None = None) -> float:
    begin = begin or time.perf_counter()
    pipe[0].write(PING)
    pipe[0].flush()
    receive(pipe[1])
    return time.perf_counter() - begin


def burst(pipe: Pipe) -> float:
    """Return how many pings a second are answered when there are always some under way."""
    begin = time.perf_counter()
    for _ in range(BURST // WINDOW):
        pipe[0].write(PING * WINDOW)
        pipe[0].flush()
        for _ in range(WINDOW):
            receive(pipe[1])
    return BURST / (time.perf_counter() - begin)


def receive(stream: IO[bytes]) -> bytes:
    (size,) = struct.unpack("=I", stream.read(4))
    return stream.read(size)


def ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.2f} ms"


if __name__ == "__main__":
    main()
