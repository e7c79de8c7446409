"""Pings on quiet connections, as messages, and what their absence of answers means."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from .errors import TransportClosed

if TYPE_CHECKING:
    from .transport import Transport

__all__ = ["PING", "KeepAlive"]

PING: Final = '{"type":"tabagent.ping"}'
PONG: Final = "tabagent.pong"
LONGEST_PONG: Final = 256


class KeepAlive:
    """The pings of one connection.

    They are messages because those are what browser code sees, and what keeps an extension's
    service worker alive. Nobody has to answer; but a peer that has ever done so and then stays
    silent from one ping to the next is gone.
    """

    def __init__(self) -> None:
        self._sent_at = time.monotonic()
        self._received_at = self._sent_at
        self._has_ponged = False

    def note_sent(self) -> None:
        """Take note of an outgoing message."""
        self._sent_at = time.monotonic()

    def note_received(self, message: str | bytes) -> bool:
        """Take note of an incoming message; returns whether it is but a pong."""
        self._received_at = time.monotonic()
        if isinstance(message, bytes) or len(message) > LONGEST_PONG or PONG not in message:
            return False
        self._has_ponged = True
        return True

    async def run(self, transport: Transport, interval: float) -> None:
        """Ping after each `interval` seconds without an outgoing message, until closed."""
        pinged_at = 0.0
        with suppress(TransportClosed):
            while True:
                quiet = time.monotonic() - self._sent_at
                if quiet < interval:
                    await anyio.sleep(interval - quiet)
                elif self._has_ponged and self._received_at < pinged_at:
                    await transport.aclose()
                    return
                else:
                    pinged_at = time.monotonic()
                    await transport.send(PING)
