"""Measures WebRTC data channels: `python -m benchmarks.webrtc`.

Peers in Python call a server in a process of its own, over this machine's network address. For the
added delay each peer gets 30 tokens a second, stamped when they are due; the clients run
in one process on the same cores, so their own work counts as delay too.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from tabagent.core.access import AccessPolicy
from tabagent.core.errors import TransportClosed
from tabagent.core.transport import ListenerContext, Transport
from tabagent.http.access import AccessMiddleware
from tabagent.http.errors import exception_handlers
from tabagent.serving import Server, server_config
from tabagent.sockets import listen
from tabagent_webrtc import WebRTCListener

if TYPE_CHECKING:
    from tabagent.core.requests import Principal

CONNECTS = 20
PEERS = 200
PER_SECOND = 30
SECONDS = 10.0


async def pace(transport: Transport, protocol: str, principal: Principal) -> None:
    """Send what a model that makes 30 tokens a second would, from the peer's first message on."""
    try:
        await transport.receive()
        due = time.monotonic()
        while True:
            due += 1 / PER_SECOND
            await anyio.sleep(max(0.0, due - time.monotonic()))
            # As a session does: what has gathered while the peer took nothing is one message.
            tokens = 1 + int(max(0.0, time.monotonic() - due) * PER_SECOND)
            dues = [due + number / PER_SECOND for number in range(tokens)]
            due = dues[-1]
            await transport.send(json.dumps({"due": dues, "delta": "token " * 8 * tokens}))
    except TransportClosed:
        pass


async def serve() -> None:
    access = AccessPolicy()
    listener = WebRTCListener(ListenerContext(access, pace, max_peers=1000))
    app = Starlette(
        routes=listener.routes(),
        middleware=[Middleware(AccessMiddleware, policy=access)],
        exception_handlers=exception_handlers(),
    )
    config = server_config(app, max_message_size=1 << 20, trusted_proxies=())
    server = Server(config, anyio.lowlevel.checkpoint)
    sockets = listen("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve)
        print(sockets[0].getsockname()[1], flush=True)
        await server.serve(sockets)
        tasks.cancel_scope.cancel()


class Peer:
    """One caller, and the delays of the messages that it gets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.delays: list[float] = []
        self.messages = 0
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.pc.createDataChannel("oai-events")
        self.channel.on("message", self.take)

    async def connect(self) -> float:
        """Return the seconds from the POST of the offer to the open channel."""
        opened = asyncio.Event()
        self.channel.on("open", opened.set)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        offer = self.pc.localDescription.sdp
        begin = time.perf_counter()
        answer = await to_thread.run_sync(self.post, offer)
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await asyncio.wait_for(opened.wait(), 20)
        return time.perf_counter() - begin

    def post(self, offer: str) -> str:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            headers = {"Content-Type": "application/sdp"}
            connection.request("POST", "/v1/realtime/calls", offer, headers)
            response = connection.getresponse()
            body = response.read().decode()
            connection.close()
            if response.status == 201:
                return body
            time.sleep(0.2)  # more offers a second than the server takes

    def take(self, message: str) -> None:
        now = time.monotonic()
        self.messages += 1
        self.delays += [now - due for due in json.loads(message)["due"]]


async def measure(port: int, pid: int) -> list[tuple[str, str]]:
    first = Peer(port)
    cold = await first.connect()
    await first.pc.close()
    opens = []
    for _ in range(CONNECTS):
        peer = Peer(port)
        opens.append(await peer.connect())
        await peer.pc.close()
    peers = [Peer(port) for _ in range(PEERS)]
    for peer in peers:
        await peer.connect()
    begin_idle, idle = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(SECONDS / 4)
    idle_cores = (cpu_seconds(pid) - idle) / (time.monotonic() - begin_idle)
    for number, peer in enumerate(peers):  # spread over one period
        peer.channel.send("1")
        if number % (PEERS // 10) == 0:
            await asyncio.sleep(0.1 / PER_SECOND)
    await asyncio.sleep(1)
    for peer in peers:
        peer.delays.clear()
        peer.messages = 0
    begin, used, own = time.monotonic(), cpu_seconds(pid), time.process_time()
    await asyncio.sleep(SECONDS)
    spent = time.monotonic() - begin
    cores, own_cores = (cpu_seconds(pid) - used) / spent, (time.process_time() - own) / spent
    delays = sorted(delay for peer in peers for delay in peer.delays)
    for peer in peers:
        await peer.pc.close()
    rate, frames = len(delays) / spent, sum(peer.messages for peer in peers) / spent
    name = f"{PEERS} peers x {PER_SECOND}/s"
    return [
        (
            "offer POST to open channel, p50 / max",
            f"{ms(statistics.median(opens))} / {ms(max(opens))}",
        ),
        ("the same, first offer of a server", ms(cold)),
        (
            f"{name}: delivered",
            f"{rate:,.0f} of {PEERS * PER_SECOND:,}/s in {frames:,.0f} messages",
        ),
        (f"{name}: delay p50 / p99", f"{ms(quantile(delays, 0.5))} / {ms(quantile(delays, 0.99))}"),
        (
            f"{name}: server",
            f"{cores:.2f} core (idle peers {idle_cores:.2f}; clients {own_cores:.2f})",
        ),
        ("load average", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"),
    ]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(ordered: list[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))]


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        uvloop.run(serve())
        return
    command = [sys.executable, "-m", "benchmarks.webrtc", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            rows = uvloop.run(measure(int(server.stdout.readline()), server.pid))
        finally:
            server.terminate()
    print("\n".join(f"| {name} | {figure} |" for name, figure in rows))


if __name__ == "__main__":
    main()
