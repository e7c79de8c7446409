"""One accepted WebSocket as a transport."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.websockets import WebSocketDisconnect
from tabagent.core.errors import TransportClosed
from tabagent.core.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.websockets import WebSocket

__all__ = ["WebSocketTransport"]

PING: Final = '{"type":"tabagent.ping"}'
PONG: Final = "tabagent.pong"
LONGEST_PONG: Final = 256

GOING_AWAY: Final = 1001
"""Why we close: the server stops, or takes the peer for gone."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a peer who takes nothing is given before it is left to the server to cut off."""


class WebSocketTransport(Transport):
    """Moves messages over a WebSocket that has been accepted.

    `send` waits while the peer takes nothing, until the server drops the connection.
    """

    def __init__(self, websocket: WebSocket, opening: Mapping[str, Any] | None = None) -> None:
        self.opening = opening or {}
        self._websocket = websocket
        self._closed = False
        self._sent_at = time.monotonic()
        self._received_at = self._sent_at
        self._has_ponged = False

    async def receive(self) -> str | bytes:
        """Return the next message; bytes for a binary frame."""
        if self._closed:
            raise TransportClosed
        event = await self._websocket.receive()
        if event["type"] == "websocket.disconnect":
            self._closed = True
            raise TransportClosed
        self._received_at = time.monotonic()
        text: str | None = event.get("text")
        if text is None:
            return bytes(event["bytes"])
        if len(text) <= LONGEST_PONG and PONG in text:
            self._has_ponged = True
        return text

    async def send(self, message: str) -> None:
        """Send one text frame."""
        if self._closed:
            raise TransportClosed
        self._sent_at = time.monotonic()
        try:
            await self._websocket.send({"type": "websocket.send", "text": message})
        except (WebSocketDisconnect, RuntimeError):  # gone; or closed by the server meanwhile
            self._closed = True
            raise TransportClosed from None

    async def aclose(self) -> None:
        """Send what is left to send, then a close frame."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(CLOSE_TIMEOUT), suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(GOING_AWAY)

    async def keep_alive(self, interval: float) -> None:
        """Ping after each `interval` seconds without an outgoing message, until closed.

        Pings are messages because those are what browser code sees, and what keeps an extension's
        service worker alive. Nobody has to answer; but a peer that has ever done so and then stays
        silent from one ping to the next is gone.
        """
        pinged_at = 0.0
        with suppress(TransportClosed):
            while True:
                quiet = time.monotonic() - self._sent_at
                if quiet < interval:
                    await anyio.sleep(interval - quiet)
                elif self._has_ponged and self._received_at < pinged_at:
                    await self.aclose()
                    return
                else:
                    pinged_at = time.monotonic()
                    await self.send(PING)
