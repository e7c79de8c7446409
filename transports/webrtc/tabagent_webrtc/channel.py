"""One data channel as a transport."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiortc.exceptions import InvalidStateError
from msgspec import Struct
from tabagent.core.bridge import Notify
from tabagent.core.errors import ProtocolError, TransportClosed
from tabagent.core.keep_alive import PING, KeepAlive
from tabagent.core.transport import Transport
from tabagent.protocols.chunks import ChunkJoiner, split_message
from tabagent.protocols.wire import ErrorObject, encode, error_object

from .sdp import SMALLEST_MESSAGE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiortc import RTCDataChannel
    from tabagent.core.errors import TabagentError

    from .association import Association

__all__ = ["CHUNKED_LABEL", "DataChannelTransport", "ErrorEvent"]

CHUNKED_LABEL: Final = "tabagent"
"""Label of the channels on which long messages go in chunks; others speak a foreign dialect."""

MAX_WHOLE_MESSAGE: Final = 256 * 1024
"""Bytes of one message that is not in chunks, as our answers to offers say."""

HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
"""Bytes waiting to be sent, above which sending waits, and below which it goes on."""

SMALL: Final = 1024
"""Bytes of a message that may wait for those before it."""

MAX_UNDER_WAY: Final = 8
"""Packets that a small message may leave under way: an answer's opening and its first token."""

LONGEST_PAUSE: Final = 0.02
"""Seconds that a small message makes the next one wait for acknowledgements at most.

One packet costs the same whatever it carries. While a sender waits, its tokens gather, so a peer, a
network or a machine that falls behind gets fewer and larger messages instead of a growing queue."""

STALL_TIMEOUT: Final = 15.0
"""Seconds after which a peer that takes nothing is given up."""

CLOSE_TIMEOUT: Final = 0.8
"""Seconds that a closing channel waits for its peer to take the last messages.

Shorter than the least retransmission time-out of SCTP, a second: a packet that aiortc sends again
while its association is being closed ends in an error that nobody sees."""


class ErrorEvent(Struct, tag_field="type", tag="error"):
    """An error that no request caused."""

    error: ErrorObject


class DataChannelTransport(Transport):
    """Moves messages over an open, ordered and reliable channel.

    Attributes:
        used_at: When a message was last sent or received (`time.monotonic`), but for pings.
        left_by_peer: Whether it was the peer that closed.
    """

    def __init__(
        self,
        channel: RTCDataChannel,
        association: Association,
        max_size: int,
        opening: Mapping[str, Any] | None = None,
    ) -> None:
        """Take incoming messages, joined ones too, of at most `max_size` bytes.

        `opening` is what the peer asked for with its offer.
        """
        self.opening = opening or {}
        self.used_at = time.monotonic()
        self.left_by_peer = False
        self._channel = channel
        self._association = association
        self._max_size = min(max_size, MAX_WHOLE_MESSAGE)
        self._joiner = ChunkJoiner(max_size) if channel.label == CHUNKED_LABEL else None
        self._chunked = 0
        self._inbox: deque[str | bytes] = deque()
        self._arrived = Notify()
        self._drained = Notify()
        self._pings = KeepAlive()
        self._closing = False
        self._gone = anyio.Event()
        channel.bufferedAmountLowThreshold = LOW_WATER
        channel.on("message", self._take)
        channel.on("bufferedamountlow", self._drained.notify)
        channel.on("close", self._lose)

    async def receive(self) -> str | bytes:
        """Return the next message; bytes for a binary one."""
        while True:
            message = await self._next()
            if not self._pings.note_received(message):
                self.used_at = time.monotonic()
            try:
                whole = self._read(message)
            except ProtocolError as error:
                self.refuse(error)
            else:
                if whole is not None:
                    return whole

    async def send(self, message: str) -> None:
        """Send one message, in chunks where it is long and the peer knows them."""
        self._pings.note_sent()
        if message != PING:
            self.used_at = time.monotonic()
        data = message.encode()
        if self._joiner is None or len(data) <= SMALLEST_MESSAGE_LIMIT:
            await self._send(data)
            return
        self._chunked += 1
        for chunk in split_message(data, SMALLEST_MESSAGE_LIMIT, f"chunk_{self._chunked}"):
            await self._send(chunk)

    async def keep_alive(self, interval: float) -> None:
        """Ping after each `interval` seconds without an outgoing message, until closed."""
        await self._pings.run(self, interval)

    def refuse(self, error: TabagentError) -> None:
        """Tell an error; not to a peer that takes nothing."""
        if self._channel.bufferedAmount < HIGH_WATER:
            with suppress(InvalidStateError):
                self._channel.send(encode(ErrorEvent(error_object(error))))

    async def aclose(self) -> None:
        """Close once the peer has taken what was sent, or after a moment."""
        if self._closing:
            return
        self._closing = True
        while self._inbox:
            self._association.release(_size(self._inbox.popleft()))
        self._arrived.notify()
        self._drained.notify()
        self._channel.close()
        with anyio.move_on_after(CLOSE_TIMEOUT):
            await self._gone.wait()

    async def _next(self) -> str | bytes:
        while not self._inbox:
            if self._closing or self._gone.is_set():
                raise TransportClosed
            await self._arrived.wait()
        message = self._inbox.popleft()
        self._association.release(_size(message))
        return message

    def _read(self, message: str | bytes) -> str | bytes | None:
        if _size(message) > self._max_size:
            text = f"a message of {_size(message)} bytes is over the limit of {self._max_size}"
            raise ProtocolError("message_too_big", text)
        if self._joiner is None or isinstance(message, bytes):
            return message
        return self._joiner.receive_message(message)

    async def _send(self, message: bytes) -> None:
        if self._closing:
            raise TransportClosed
        try:
            self._association.send(self._channel, message)
        except InvalidStateError:
            raise TransportClosed from None
        except ValueError:
            text = "an answer is longer than what this peer takes in one message"
            self.refuse(ProtocolError("message_too_big", text))
        if self._channel.bufferedAmount > HIGH_WATER:
            await self._drain()
        elif len(message) <= SMALL and self._association.under_way > MAX_UNDER_WAY:
            await self._pause()

    async def _pause(self) -> None:
        self._association.heard.add(self._drained.notify)
        try:
            with anyio.move_on_after(LONGEST_PAUSE):
                while self._association.under_way > MAX_UNDER_WAY:
                    if self._closing or self._gone.is_set():
                        break
                    await self._drained.wait()
        finally:
            self._association.heard.discard(self._drained.notify)

    async def _drain(self) -> None:
        with anyio.move_on_after(STALL_TIMEOUT):
            while self._channel.bufferedAmount > LOW_WATER:
                if self._closing or self._gone.is_set():
                    raise TransportClosed
                await self._drained.wait()
            return
        await self._association.abort()
        raise TransportClosed

    def _take(self, message: str | bytes) -> None:
        if not self._closing:
            self._inbox.append(message)
            self._association.hold(_size(message))
            self._arrived.notify()

    def _lose(self) -> None:
        self.left_by_peer = not self._closing
        self._gone.set()
        self._arrived.notify()
        self._drained.notify()


def _size(message: str | bytes) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode())
