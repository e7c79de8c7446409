"""One accepted WebSocket as a transport."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.websockets import WebSocketDisconnect
from tabagent.core.errors import TransportClosed
from tabagent.core.keep_alive import KeepAlive
from tabagent.core.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.websockets import WebSocket

__all__ = ["WebSocketTransport"]

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
        self._pings = KeepAlive()

    async def receive(self) -> str | bytes:
        """Return the next message; bytes for a binary frame."""
        if self._closed:
            raise TransportClosed
        event = await self._websocket.receive()
        if event["type"] == "websocket.disconnect":
            self._closed = True
            raise TransportClosed
        text: str | None = event.get("text")
        message = bytes(event["bytes"]) if text is None else text
        self._pings.note_received(message)
        return message

    async def send(self, message: str) -> None:
        """Send one text frame."""
        if self._closed:
            raise TransportClosed
        self._pings.note_sent()
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
        """Ping after each `interval` seconds without an outgoing message, until closed."""
        await self._pings.run(self, interval)
