"""WebRTC peers in Python, for measurements; as a program, one that comes and may do harm."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from anyio import to_thread

if TYPE_CHECKING:
    from aiortc import RTCSctpTransport

LONGEST_DELAY: Final = 0.2
"""Seconds after which browsers acknowledge a single packet."""

HOSTILE_SIZE: Final = 24_000_000
DELTA: Final = '{"type":"response.output_text.delta"'


class Peer:
    """One caller.

    Attributes:
        dues: When each of its tokens was made.
        delays: How many seconds later it came.
        arrivals: When each message with tokens came.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.dues: list[float] = []
        self.delays: list[float] = []
        self.arrivals: list[float] = []
        self.first = asyncio.Event()
        self.ended = asyncio.Event()
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.pc.createDataChannel("tabagent")
        self.channel.on("message", self.take)
        self.channel.on("close", self.ended.set)

    async def connect(self) -> float:
        """Return the seconds from the POST of the offer to the open channel."""
        opened = asyncio.Event()
        self.channel.on("open", opened.set)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        assert self.pc.sctp is not None
        _Acknowledgements(self.pc.sctp)
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

    def ask(self, **fields: Any) -> None:
        """Ask for a response."""
        self.first.clear()
        self.channel.send(json.dumps({"type": "response.create", **fields}))

    def take(self, message: str) -> None:
        if not message.startswith(DELTA):
            return
        now = time.monotonic()
        self.first.set()
        made = [float(word) for word in json.loads(message)["delta"].split() if word[0].isdigit()]
        self.arrivals.append(now)
        self.dues += made
        self.delays += [now - due for due in made]

    def forget(self) -> None:
        self.dues, self.delays, self.arrivals = [], [], []


class _Acknowledgements:
    """Those of browsers: for every second packet, or after a while; aiortc sends one for each."""

    def __init__(self, sctp: RTCSctpTransport) -> None:
        self._sctp = sctp
        self._send = sctp._send_sack
        self._owed: asyncio.TimerHandle | None = None
        sctp._send_sack = self.owe  # type: ignore[method-assign]

    async def owe(self) -> None:
        sctp = self._sctp
        sctp._sack_needed = False
        if self._owed is None and not sctp._sack_misordered and not sctp._sack_duplicates:
            self._owed = asyncio.get_running_loop().call_later(LONGEST_DELAY, self.pay_late)
            return
        if self._owed is not None:
            self._owed.cancel()
            self._owed = None
        await self._send()

    def pay_late(self) -> None:
        self._owed = None
        if self._sctp._association_state is self._sctp.State.ESTABLISHED:
            self._late = asyncio.ensure_future(self._send())


async def visit(port: int, size: int) -> None:
    """Come, and go again; or send one message of that many bytes, and be cut off."""
    peer = Peer(port)
    await peer.connect()
    if size:
        assert peer.pc.sctp is not None
        peer.pc.sctp._remote_max_message_size = 0
        peer.channel.send(b"x" * size)
        await asyncio.wait_for(peer.ended.wait(), 60)
    await peer.pc.close()


if __name__ == "__main__":
    uvloop.run(visit(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
