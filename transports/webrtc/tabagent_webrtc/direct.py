"""Moves packets between an association and its socket at once.

aiortc takes a task for each message sent, a queue and a task for each packet received, and all its
state machine for each acknowledgement. None of that waits for anything, so here it is done in the
call that brings the message or the packet; whatever is not the common case is left to aiortc.
"""

from __future__ import annotations

import time
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

import aioice
import aiortc
import OpenSSL
from aiortc.rtcdtlstransport import State
from aiortc.rtcsctptransport import SackChunk
from aiortc.utils import uint32_gt, uint32_gte
from google_crc32c import value as crc32c
from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiortc import RTCSctpTransport
    from aiortc.rtcsctptransport import DataChunk

__all__ = ["IS_KNOWN", "DirectPath", "at_once"]

KNOWN_VERSIONS: Final = {aiortc: "1.16.0", aioice: "0.13.0", OpenSSL: "26.4.0"}
"""Whose insides are used here. Others work too, but take aiortc's own way."""

IS_KNOWN: Final = all(module.__version__ == known for module, known in KNOWN_VERSIONS.items())

MAX_DATAGRAM: Final = 1500

FIRST_DTLS: Final = 20
LAST_DTLS: Final = 63
"""The first byte of a DTLS record (RFC 7983)."""

PLAIN_SACK: Final = Struct("!HHL4sBBHLLHH")
"""A packet that holds one SACK without gaps or duplicates."""


def at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing.

    :raises RuntimeError: when it does wait; it is not run to its end then.
    """
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("what was to be done at once has to wait")


class DirectPath:
    """The packets of one association, from the moment its DTLS handshake is done."""

    def __init__(self, sctp: RTCSctpTransport) -> None:
        """Take over what arrives for `sctp`."""
        self._sctp = sctp
        self._dtls = sctp.transport
        self._ice = self._dtls.transport._connection
        self._queue_datagram = self._ice.data_received
        self._ice.data_received = self._take_datagram  # type: ignore[method-assign]

    def _take_datagram(self, data: bytes, component: int) -> None:
        dtls, ssl = self._dtls, self._dtls._ssl
        is_record = bool(data) and FIRST_DTLS <= data[0] <= LAST_DTLS
        waiting = not self._ice._queue.empty()  # what came before goes first
        if waiting or not is_record or ssl is None or dtls._state is not State.CONNECTED:
            self._queue_datagram(data, component)
            return
        try:
            ssl.bio_write(data)
            packet = ssl.recv(MAX_DATAGRAM)
        except SSL.ZeroReturnError:  # the peer has closed: ends the task that reads the queue
            self._ice._queue.put_nowait(None)
        except SSL.Error:  # no data in it, but perhaps something to answer
            self._run(dtls._write_ssl())
        else:
            if dtls._data_receiver is not None:
                self._run(self._sctp._handle_data(packet))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        with suppress(ConnectionError):  # ICE has lost its peer, and ends the connection
            at_once(work)

    def take_acknowledgement(self, packet: bytes) -> bool:
        """Take a packet that says no more than how far the peer has got; no other.

        What `RTCSctpTransport` would do with it, when nothing waits to be sent.
        """
        sctp = self._sctp
        if len(packet) != PLAIN_SACK.size or packet[12] != SackChunk.type:
            return False
        _, _, tag, checksum, _, _, _, tsn, _, gaps, duplicates = PLAIN_SACK.unpack(packet)
        if gaps or duplicates or tag != sctp._local_verification_tag or self._is_busy():
            return False
        if checksum != crc32c(packet[:8] + bytes(4) + packet[12:]).to_bytes(4, "little"):
            return False
        if uint32_gt(sctp._last_sacked_tsn, tsn):
            return True
        sctp._last_sacked_tsn = tsn
        if acknowledged := self._take_sent_until(tsn):
            first = acknowledged[0]
            if first._sent_count == 1 and first._sent_time is not None:
                sctp._update_rto(time.time() - first._sent_time)
            if sctp._sent_queue:
                sctp._t3_restart()
        if not sctp._sent_queue:
            sctp._t3_cancel()
        sctp._update_advanced_peer_ack_point()
        return True

    def _is_busy(self) -> bool:
        """Whether an acknowledgement makes more packets go, or faster ones."""
        sctp = self._sctp
        return bool(
            sctp._data_channel_queue
            or sctp._outbound_queue
            or sctp._flight_size >= sctp._cwnd
            or sctp._fast_recovery_exit is not None
            or sctp._forward_tsn_chunk is not None
            or any(chunk._retransmit for chunk in sctp._sent_queue)
        )

    def _take_sent_until(self, tsn: int) -> list[DataChunk]:
        """Return the chunks that need not be kept any longer."""
        sctp = self._sctp
        acknowledged = []
        while sctp._sent_queue and uint32_gte(tsn, sctp._sent_queue[0].tsn):
            chunk = sctp._sent_queue.popleft()
            sctp._flight_size_decrease(chunk)
            acknowledged.append(chunk)
        return acknowledged
