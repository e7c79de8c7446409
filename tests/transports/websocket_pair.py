"""A WebSocket over loopback as a pair of transports."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tabagent.core.errors import TransportClosed
from tabagent.core.transport import Transport
from tabagent.testing import TransportPair
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.servers import websocket_server
from tests.transports.acceptor import Acceptor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["DialledWebSocket", "websocket_pair"]


class DialledWebSocket(Transport):
    """The client's end, by another library than the server's."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            raise TransportClosed from None

    async def send(self, message: str) -> None:
        await self._send(message)

    async def send_bytes(self, message: bytes) -> None:
        await self._send(message)

    async def aclose(self) -> None:
        await self._connection.close()

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            raise TransportClosed from None


@asynccontextmanager
async def websocket_pair() -> AsyncIterator[TransportPair]:
    """Connect a client to the listener."""
    acceptor = Acceptor()
    async with websocket_server(acceptor.handle) as port:
        url = f"ws://127.0.0.1:{port}/v1/responses"
        async with connect(url, compression=None, ping_interval=None) as connection:
            accepted = await acceptor.accept()
            dialled = DialledWebSocket(connection)
            yield TransportPair(accepted.transport, dialled, dialled.send_bytes)
            acceptor.let_go()
