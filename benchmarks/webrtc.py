"""Measures WebRTC data channels: `python -m benchmarks.webrtc`.

The server is TabAgent with a model that costs nothing; peers in Python call it over this machine's
network address and acknowledge as browsers do. Each of many peers gets 30 tokens a second, which
say when they were made; the peers run in one process on the same cores, so their own work counts
as delay too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import uvloop
from anyio import to_thread

from .clients import Sse, WebSocket, stream
from .peers import HOSTILE_SIZE, Peer
from .steps import PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .clients import Dialect

CONNECTS = 20
FIRST_TOKENS = 100
PEERS = 200
FEW = 40
SECONDS = 10.0
BYSTANDERS = 20
HOSTILE_PEERS = 5
PROMPT = "one two three four five six seven eight"

Row = tuple[str, str]


async def measure(port: int, pid: int, bare: subprocess.Popen[str]) -> list[Row]:
    idle = resident(pid)
    cold = await closing(Peer(port))
    after = resident(pid)
    rows = [
        ("offer POST to open channel, p50 / max", await opens(port)),
        ("the same, first offer of a server", ms(cold)),
        ("resident before / after the first offer", f"{idle:.0f} / {after:.0f} MB"),
        ("first token, p50: HTTP / WebSocket / WebRTC", await first_tokens(port)),
        *await hostile(port),
        *await load("aiortc alone", await asked([PipedPeer(bare) for _ in range(FEW)]), bare.pid),
        *await load("TabAgent", await running(port, FEW), pid),
        *await many(port, pid),
    ]
    return [*rows, ("load average", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")]


async def opens(port: int) -> str:
    found = [await closing(Peer(port)) for _ in range(CONNECTS)]
    return f"{ms(statistics.median(found))} / {ms(max(found))}"


async def closing(peer: Peer) -> float:
    try:
        return await peer.connect()
    finally:
        await peer.pc.close()


async def first_tokens(port: int) -> str:
    """Ask over each door in turn, each time over a connection that is open."""
    peer = Peer(port)
    await peer.connect()
    doors: dict[str, list[float]] = {"http": [], "ws": [], "webrtc": []}
    for _ in range(FIRST_TOKENS):
        doors["http"].append(await to_thread.run_sync(first_token, Sse(), port))
        doors["ws"].append(await to_thread.run_sync(first_token, WebSocket(), port))
        begin = time.monotonic()
        peer.ask(model="demo", input=PROMPT, max_output_tokens=4)
        await asyncio.wait_for(peer.first.wait(), 20)
        doors["webrtc"].append((time.monotonic() - begin) * 1000)
        await asyncio.sleep(0.005)  # the rest of the answer
    await peer.pc.close()
    return " / ".join(f"{statistics.median(found):.2f} ms" for found in doors.values())


def first_token(dialect: Dialect, port: int) -> float:
    [answer] = stream(dialect, port, [PROMPT], 4)
    return answer.first_token_ms


async def hostile(port: int) -> list[Row]:
    """Measure the gaps between tokens of some peers while others come: harmless, and not so."""
    peers = await running(port, BYSTANDERS)
    visit = [sys.executable, "-m", "benchmarks.peers", str(port)]
    quiet: list[float] = []
    harmed: list[float] = []
    for _ in range(HOSTILE_PEERS):
        for gaps, program in ((quiet, visit), (harmed, [*visit, str(HOSTILE_SIZE)])):
            for peer in peers:
                peer.forget()
            await to_thread.run_sync(subprocess.check_call, program)
            gaps += [
                later - before
                for peer in peers
                for before, later in zip(peer.arrivals, peer.arrivals[1:], strict=False)
            ]
    for peer in peers:
        await peer.pc.close()
    name = f"gaps between tokens of {BYSTANDERS} peers, p50 / p99"
    ratio = quantile(harmed, 0.99) / quantile(quiet, 0.99)
    return [
        (f"{name}, while others come and go", spread(quiet)),
        (f"{name}, while these send 24 MB each", f"{spread(harmed)}; p99 × {ratio:.2f}"),
    ]


async def running(port: int, count: int) -> list[Peer]:
    """Connect peers, and let each be sent tokens without end."""
    return await asked([Peer(port) for _ in range(count)])


async def asked(peers: Sequence[Peer]) -> list[Peer]:
    for peer in peers:
        await peer.connect()
    for peer in peers:
        peer.ask(model="steps", input="go")
    for peer in peers:
        await asyncio.wait_for(peer.first.wait(), 60)
    return list(peers)


async def many(port: int, pid: int) -> list[Row]:
    idlers = [Peer(port) for _ in range(PEERS)]
    for peer in idlers:
        await peer.connect()
    idle_cores, _ = await cores(pid, SECONDS / 4)
    for peer in idlers:
        await peer.pc.close()
    return [
        (f"{PEERS} idle peers: server", f"{idle_cores:.2f} core"),
        *await load("TabAgent", await running(port, PEERS), pid),
    ]


class PipedPeer(Peer):
    """A caller whose signalling is a pipe."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        super().__init__(0)
        self._server = server

    def post(self, offer: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(offer), file=self._server.stdin, flush=True)
        answer: str = json.loads(self._server.stdout.readline())
        return answer


async def load(name: str, peers: list[Peer], pid: int) -> list[Row]:
    name += f", {len(peers)} peers × {PER_SECOND}/s"
    await asyncio.sleep(1)
    for peer in peers:
        peer.forget()
    server, own = await cores(pid, SECONDS)
    delays = [delay for peer in peers for delay in peer.delays]
    rate, frames = len(delays) / SECONDS, sum(len(peer.arrivals) for peer in peers) / SECONDS
    for peer in peers:
        await peer.pc.close()
    each = f"{server / frames * 1e6:.0f} µs a message"
    delivered = f"{rate:,.0f} of {len(peers) * PER_SECOND:,}/s in {frames:,.0f} messages"
    return [
        (f"{name}: delivered", delivered),
        (f"{name}: added delay p50 / p99", spread(delays)),
        (f"{name}: server", f"{server:.2f} core, {each} (clients {own:.2f})"),
    ]


async def cores(pid: int, seconds: float) -> tuple[float, float]:
    """Return the cores that the server and this process use for some seconds."""
    used, own = cpu_seconds(pid), time.process_time()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - used) / seconds, (time.process_time() - own) / seconds


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def spread(seconds: list[float]) -> str:
    return f"{ms(quantile(seconds, 0.5))} / {ms(quantile(seconds, 0.99))}"


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def main() -> None:
    python = [sys.executable, "-m"]
    with (
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen([*python, "benchmarks.steps", home], stdout=PIPE, text=True) as server,
        subprocess.Popen([*python, "benchmarks.bare"], stdin=PIPE, stdout=PIPE, text=True) as bare,
    ):
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            rows = uvloop.run(measure(port, server.pid, bare))
        finally:
            server.terminate()
            bare.terminate()
    print("\n".join(f"| {name} | {figure} |" for name, figure in rows))


if __name__ == "__main__":
    main()
