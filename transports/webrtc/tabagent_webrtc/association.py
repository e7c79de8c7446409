"""Bounds what a peer may make its SCTP association hold; aiortc has no bounds of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiortc.rtcsctptransport import WEBRTC_STRING, HeartbeatChunk

from .direct import IS_KNOWN, DirectPath, at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCDataChannel, RTCSctpTransport

__all__ = ["Association"]

log = logging.getLogger("tabagent.webrtc")

WINDOW: Final = 512 * 1024
"""Bytes that a peer may have under way: incomplete, out of order, or not read yet."""

MAX_HELD: Final = WINDOW + 256 * 1024
"""Bytes held of a peer that minds no window, after which it is cut off."""

MAX_FRAGMENTS: Final = 512
"""Packets held, a window of full ones; all are searched for each one that arrives."""

MAX_STREAMS: Final = 32

HEARTBEAT_INFO: Final = 1


class Association:
    """One peer's association, watched over.

    Attributes:
        heard_at: When anything came from the peer, acknowledgements too (`time.monotonic`).
        heard: Called whenever something came.
    """

    def __init__(self, sctp: RTCSctpTransport) -> None:
        """Watch an association that has not started yet."""
        self.heard_at = time.monotonic()
        self.heard: set[Callable[[], object]] = set()
        self._sctp = sctp
        self._direct: DirectPath | None = None
        self._window_update: asyncio.Task[None] | None = None
        sctp._advertised_rwnd = WINDOW
        self._handle = sctp._handle_data
        sctp._handle_data = self._handle_data  # type: ignore[method-assign]

    @property
    def closed(self) -> bool:
        """Whether no channel will ever carry anything again."""
        return self._sctp.state == "closed"

    @property
    def under_way(self) -> int:
        """Packets of all channels that the peer has not acknowledged, and messages before them."""
        sctp = self._sctp
        return len(sctp._sent_queue) + len(sctp._outbound_queue) + len(sctp._data_channel_queue)

    def go_direct(self) -> None:
        """Take the short way from now on, if it is known; the DTLS handshake is done."""
        if self._direct is None and IS_KNOWN:
            self._direct = DirectPath(self._sctp)

    def send(self, channel: RTCDataChannel, text: bytes) -> None:
        """Send a text message, which is not empty, after those before it.

        :raises InvalidStateError: when the channel is not open.
        :raises ValueError: when the peer takes no messages of that length.
        """
        sctp = self._sctp
        limit = sctp._remote_max_message_size or len(text)
        if self._direct is None or channel.readyState != "open" or len(text) > limit:
            channel.send(text.decode())
            return
        channel._addBufferedAmount(len(text))
        sctp._data_channel_queue.append((channel, WEBRTC_STRING, text))
        with suppress(ConnectionError):  # the peer is lost, which ICE tells soon
            at_once(sctp._data_channel_flush())

    def hold(self, size: int) -> None:
        """Take note of a message that nobody has read yet: the peer may send as much less."""
        self._sctp._advertised_rwnd -= size

    def release(self, size: int) -> None:
        """Take note that a message was read."""
        before = self._sctp._advertised_rwnd
        self._sctp._advertised_rwnd += size
        if before < WINDOW // 2 <= before + size:
            # A peer with a closed window would find out by trying, after seconds.
            self._window_update = asyncio.ensure_future(self._announce_window())

    async def heartbeat(self) -> None:
        """Ask the peer for a sign of life, which every SCTP stack gives."""
        if self._sctp._association_state == self._sctp.State.ESTABLISHED:
            chunk = HeartbeatChunk()
            chunk.params.append((HEARTBEAT_INFO, b"tabagent"))
            with suppress(ConnectionError):
                await self._sctp._send_chunk(chunk)

    async def abort(self) -> None:
        """Cut the peer off: all its channels close."""
        with suppress(ConnectionError):
            await self._sctp.stop()

    async def _announce_window(self) -> None:
        with suppress(ConnectionError):
            if self._sctp._association_state == self._sctp.State.ESTABLISHED:
                await self._sctp._send_sack()

    async def _handle_data(self, data: bytes) -> None:
        """Take one packet; whatever it is, it harms nobody but its sender."""
        self.heard_at = time.monotonic()
        try:
            if self._direct is None or not self._direct.take_acknowledgement(data):
                await self._handle(data)
        except ConnectionError:
            raise
        except Exception as error:  # assertions about the peer, texts that are no UTF-8, …
            log.info("cut off a peer that broke its association: %r", error)
            await self.abort()
            return
        if excess := self._excess():
            log.info("cut off a peer that %s", excess)
            await self.abort()
        for notify in self.heard:
            notify()

    def _excess(self) -> str | None:
        sctp = self._sctp
        streams = sctp._inbound_streams
        if WINDOW - sctp._advertised_rwnd > MAX_HELD:
            return "sent more than fits its window"
        if len(streams) > MAX_STREAMS:
            return "opened too many streams"
        fragments = sum(len(stream.reassembly) for stream in streams.values())
        if max(fragments, len(sctp._sack_misordered)) > MAX_FRAGMENTS:
            return "left out packets, or never ended its messages"
        return None
