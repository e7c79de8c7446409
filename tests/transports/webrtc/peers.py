"""A WebRTC client in Python, and the listener that it calls over HTTP."""

from __future__ import annotations

import http.client
import json
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from anyio import to_thread
from msgspec import Struct
from starlette.applications import Starlette
from starlette.middleware import Middleware
from tabagent.core.access import AccessPolicy
from tabagent.core.bridge import Notify
from tabagent.core.errors import TransportClosed
from tabagent.core.transport import ListenerContext, Transport
from tabagent.http.access import AccessMiddleware
from tabagent.http.errors import exception_handlers
from tabagent.protocols.chunks import ChunkJoiner, split_message
from tabagent.testing import TransportPair
from tabagent_webrtc import WebRTCListener

from tests.servers import http_server
from tests.transports.acceptor import Acceptor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiortc import RTCDataChannel, RTCSctpTransport
    from tabagent.core.requests import Principal
    from tabagent.core.transport import ConnectionHandler

CALLS = "/v1/realtime/calls"
SDP = {"Content-Type": "application/sdp"}
DEADLINE = 20.0
HIGH_WATER = 64 * 1024
MAX_UNREAD = 64


class Answer(Struct):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["error"]["code"]
        return code


async def call_http(
    port: int,
    method: str,
    path: str = CALLS,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request."""

    def call() -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    return await to_thread.run_sync(call)


class Channel(Transport):
    """The client's end of a data channel; on `tabagent` long messages go in chunks."""

    def __init__(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        self._joiner = ChunkJoiner(16 * 1024 * 1024) if channel.label == "tabagent" else None
        self._inbox: deque[str | bytes] = deque()
        self._changed = Notify()
        self._drained = Notify()
        self._read = Notify()
        self._sent = 0
        channel.bufferedAmountLowThreshold = HIGH_WATER // 4
        channel.on("message", self._take)
        channel.on("open", self._changed.notify)
        channel.on("close", self._close)
        channel.on("bufferedamountlow", self._drained.notify)

    async def opened(self) -> Self:
        with anyio.fail_after(DEADLINE):
            while self.channel.readyState == "connecting":
                await self._changed.wait()
        return self

    async def send(self, message: str) -> None:
        self._sent += 1
        data = message.encode()
        pieces = split_message(data, 16 * 1024, f"c{self._sent}") if self._joiner else [data]
        for piece in pieces:
            await self.send_frame(piece.decode())

    async def send_bytes(self, message: bytes) -> None:
        await self.send_frame(message)

    async def send_frame(self, message: str | bytes) -> None:
        try:
            self.channel.send(message)
        except InvalidStateError:
            raise TransportClosed from None
        while self.channel.bufferedAmount > HIGH_WATER and self.channel.readyState == "open":
            await self._drained.wait()

    async def receive(self) -> str | bytes:
        while True:
            while not self._inbox:
                if self.channel.readyState == "closed":
                    raise TransportClosed
                await self._changed.wait()
            message = self._inbox.popleft()
            self._read.notify()
            if isinstance(message, bytes) or self._joiner is None:
                return message
            whole = self._joiner.receive_message(message)
            if whole is not None:
                return whole

    async def aclose(self) -> None:
        self.channel.close()

    def take_only_what_is_read(self, sctp: RTCSctpTransport) -> None:
        """Leave packets in the socket while there are unread messages, as a busy page does."""
        handle = sctp._handle_data

        async def patient(data: bytes) -> None:
            while len(self._inbox) > MAX_UNREAD:
                await self._read.wait()
            await handle(data)

        sctp._handle_data = patient  # type: ignore[method-assign]

    async def ask(self, **message: Any) -> None:
        await self.send(json.dumps(message))

    async def event(self) -> dict[str, Any]:
        """Return the next message."""
        with anyio.fail_after(DEADLINE):
            event: dict[str, Any] = json.loads(await self.receive())
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        """Receive until an event of that type has come."""
        while (event := await self.event())["type"] != kind:
            pass
        return event

    async def closed(self) -> None:
        """Receive until the channel is closed."""
        with anyio.fail_after(DEADLINE):
            try:
                while True:
                    await self.receive()
            except TransportClosed:
                return

    def _take(self, message: str | bytes) -> None:
        self._inbox.append(message)
        self._changed.notify()

    def _close(self) -> None:
        self._changed.notify()
        self._drained.notify()


class Caller:
    """A peer connection that calls a server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.location = ""
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    def open(self, label: str = "tabagent", **options: Any) -> Channel:
        return Channel(self.pc.createDataChannel(label, **options))

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def take(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def call(self, headers: dict[str, str] | None = None) -> Answer:
        """Post the offer and take the answer."""
        offer = (await self.offer()).encode()
        answer = await call_http(self.port, "POST", CALLS, offer, SDP | (headers or {}))
        assert answer.status == 201, answer
        self.location = answer.headers["location"]
        await self.take(answer.body.decode())
        return answer

    @property
    def sctp(self) -> RTCSctpTransport:
        assert self.pc.sctp is not None
        return self.pc.sctp

    def vanish(self) -> None:
        """Stop talking and listening, as a machine that lost its power: no farewell."""

        self.sctp.transport._send_data = nothing  # type: ignore[method-assign]
        self.sctp._handle_data = nothing  # type: ignore[method-assign]


async def nothing(data: bytes) -> None:
    """Take a packet and forget it."""


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    """Make a peer connection that is closed in the end."""
    caller = Caller(port)
    try:
        yield caller
    finally:
        with anyio.CancelScope(shield=True):
            await caller.pc.close()


@asynccontextmanager
async def connected(port: int, label: str = "tabagent") -> AsyncIterator[tuple[Caller, Channel]]:
    """Call and open one channel."""
    async with calling(port) as caller:
        channel = caller.open(label)
        await caller.call()
        yield caller, await channel.opened()


async def answers(channel: Channel) -> bool:
    await channel.send('"still here"')
    while await channel.receive() != '"still here"':
        pass
    return True


@asynccontextmanager
async def webrtc_server(
    handle: ConnectionHandler,
    *,
    listener: type[WebRTCListener] = WebRTCListener,
    access: AccessPolicy | None = None,
    **settings: Any,
) -> AsyncIterator[int]:
    """Run the WebRTC listener alone, behind the application's own door; yields the port."""
    access = access or AccessPolicy()
    running = listener(ListenerContext(access, handle, **settings))
    app = Starlette(
        routes=running.routes(),
        middleware=[Middleware(AccessMiddleware, policy=access)],
        exception_handlers=exception_handlers(),
    )
    async with http_server(app) as port, anyio.create_task_group() as tasks:
        tasks.start_soon(running.serve)
        yield port
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def webrtc_pair() -> AsyncIterator[TransportPair]:
    """Connect a client to the listener."""
    acceptor = Acceptor()
    async with webrtc_server(acceptor.handle) as port, calling(port) as caller:
        channel = caller.open()
        await caller.call()
        await channel.opened()
        channel.take_only_what_is_read(caller.sctp)
        accepted = await acceptor.accept()
        yield TransportPair(accepted.transport, channel, channel.send_bytes)


async def echo(transport: Transport, protocol: str, principal: Principal) -> None:
    """Send every message back; tell what is no text, and who asks."""
    while True:
        message = await transport.receive()
        if isinstance(message, bytes):
            message = '"binary"'
        elif message == '"who"':
            message = json.dumps({"protocol": protocol, "caller": principal.id})
        await transport.send(message)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until other tasks have made it true."""
    with anyio.fail_after(DEADLINE):
        while not condition():
            await anyio.lowlevel.checkpoint()
