"""The server's end of the connections that a test makes."""

from __future__ import annotations

from collections import deque

import anyio
from msgspec import Struct
from tabagent.core.bridge import Notify
from tabagent.core.requests import Principal
from tabagent.core.transport import Transport

__all__ = ["Accepted", "Acceptor"]

DEADLINE = 20.0


class Accepted(Struct):
    """A connection as a listener hands it over."""

    transport: Transport
    protocol: str
    principal: Principal


class Acceptor:
    """Takes the connections of a listener, which stay open until they are let go."""

    def __init__(self) -> None:
        self._waiting: deque[Accepted] = deque()
        self._arrived = Notify()
        self._over = anyio.Event()

    async def handle(self, transport: Transport, protocol: str, principal: Principal) -> None:
        """Be the listener's handler."""
        self._waiting.append(Accepted(transport, protocol, principal))
        self._arrived.notify()
        await self._over.wait()

    async def accept(self) -> Accepted:
        """Return the next connection."""
        with anyio.fail_after(DEADLINE):
            while not self._waiting:
                await self._arrived.wait()
        return self._waiting.popleft()

    def let_go(self) -> None:
        """End the handling of all connections."""
        self._over.set()
