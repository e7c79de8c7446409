"""One native connection: frames on a local socket, carrying whole JSON messages."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import msgspec
from msgspec import Struct
from tabagent.core.errors import ProtocolError, TransportClosed
from tabagent.core.transport import Transport
from tabagent.protocols.chunks import ChunkJoiner, split_message
from tabagent.protocols.wire import ErrorObject, error_object

from .endpoint import peer_uid
from .framing import MAX_FRAME_TO_BROWSER, FrameDecoder, OversizedFrame, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from tabagent.core.errors import TabagentError

    from .framing import Frame

__all__ = ["FrameConnection", "NativeTransport"]

MAX_UNREAD: Final = 1024 * 1024
"""Bytes of frames read ahead of whoever takes them."""

STALL_TIMEOUT: Final = 30.0
"""Seconds after which a peer that takes nothing is given up."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that a closing connection waits for its peer to take the last frames."""


class FrameConnection(asyncio.Protocol):
    """Moves frames over a stream socket, with back-pressure both ways."""

    def __init__(self, max_size: int, on_connect: Callable[[FrameConnection], object]) -> None:
        """Take incoming frames of at most `max_size` bytes."""
        self._decoder = FrameDecoder(max_size)
        self._on_connect = on_connect
        self._frames: deque[Frame] = deque()
        self._unread = 0
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start: called by the event loop."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._on_connect(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes: called by the event loop."""
        for frame in self._decoder.receive_data(data):
            self._frames.append(frame)
            self._unread += _weight(frame)
        if self._unread > MAX_UNREAD:
            self.transport.pause_reading()
        self._arrived.set()

    def pause_writing(self) -> None:
        """Hold writers back: called by the event loop."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on: called by the event loop."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End: called by the event loop."""
        self._lost.set()
        self._arrived.set()
        self._writable.set()

    def peer_uid(self) -> int | None:
        """Return the user at the other end, where the system tells."""
        return peer_uid(self.transport.get_extra_info("socket"))

    async def receive(self) -> Frame:
        """Return the next frame.

        :raises TransportClosed: when the peer is gone and its last frame was returned.
        """
        while not self._frames:
            if self._lost.is_set():
                raise TransportClosed
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        was_paused = self._unread > MAX_UNREAD
        self._unread -= _weight(frame)
        if was_paused and self._unread <= MAX_UNREAD and not self.transport.is_closing():
            self.transport.resume_reading()
        return frame

    async def send(self, message: bytes) -> None:
        """Send one frame; waits while the peer takes nothing.

        :raises TransportClosed: when it is gone, or took nothing for `STALL_TIMEOUT`.
        """
        if self._lost.is_set() or self.transport.is_closing():
            raise TransportClosed
        self.transport.write(encode_frame(message))
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(STALL_TIMEOUT):
                await self._writable.wait()
        except TimeoutError:
            self.transport.abort()
            raise TransportClosed from None

    async def aclose(self) -> None:
        """Close when the peer has taken what was sent, or after a moment."""
        self.transport.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._lost.wait()
        except TimeoutError:
            self.transport.abort()


def _weight(frame: Frame) -> int:
    return 64 if isinstance(frame, OversizedFrame) else 64 + len(frame)


class _ErrorEvent(Struct, tag_field="type", tag="error"):
    error: ErrorObject


class _ErrorReply(Struct, kw_only=True):
    status: str = "error"
    action: str | None = None
    code: str
    error: str


class _FirstMessage(Struct):
    action: object = msgspec.UNSET


class NativeTransport(Transport):
    """Messages over frames: those above 1 MiB to the browser go, and may come, in chunks."""

    def __init__(self, connection: FrameConnection, max_size: int) -> None:
        """Take incoming messages, joined ones too, of at most `max_size` bytes."""
        self._connection = connection
        self._max_size = max_size
        self._joiner = ChunkJoiner(max_size)
        self._first: str | bytes | None = None
        self._speaks_extension = False
        self._chunked = 0

    async def choose_protocol(self) -> str:
        """Return the name of the protocol that the peer's first message speaks.

        :raises TransportClosed: when there is none.
        """
        self._first = await self._next_message()
        try:
            first = msgspec.json.decode(self._first, type=_FirstMessage)
            self._speaks_extension = first.action is not msgspec.UNSET
        except (msgspec.DecodeError, RecursionError):
            pass  # whatever it is, the `responses` protocol answers it with an error
        return "extension" if self._speaks_extension else "responses"

    async def receive(self) -> str | bytes:
        """Return the next message; bytes for a frame that is no UTF-8."""
        first, self._first = self._first, None
        return await self._next_message() if first is None else first

    async def send(self, message: str) -> None:
        """Send one message, in chunks when a browser would not take it whole."""
        data = message.encode()
        if len(data) <= MAX_FRAME_TO_BROWSER:
            await self._connection.send(data)
            return
        self._chunked += 1
        for chunk in split_message(data, MAX_FRAME_TO_BROWSER, f"chunk_{self._chunked}"):
            await self._connection.send(chunk)

    async def refuse(self, error: TabagentError) -> None:
        """Send an error that no request caused, as the peer's protocol writes it."""
        answer: Struct = _ErrorEvent(error_object(error))
        if self._speaks_extension:
            answer = _ErrorReply(code=error.code, error=error.message)
        await self._connection.send(msgspec.json.encode(answer))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()

    async def _next_message(self) -> str | bytes:
        while True:
            frame = await self._connection.receive()
            try:
                message = self._read(frame)
            except ProtocolError as error:
                await self.refuse(error)
            else:
                if message is not None:
                    return message

    def _read(self, frame: Frame) -> str | bytes | None:
        if isinstance(frame, OversizedFrame):
            text = f"a message of {frame.size} bytes is over the limit of {self._max_size}"
            raise ProtocolError("message_too_big", text)
        try:
            text = frame.decode()
        except UnicodeDecodeError:
            return frame
        return self._joiner.receive_message(text)
