"""A connection without a wire: two transports joined in memory."""

from __future__ import annotations

from collections import deque

from tabagent.core.bridge import Notify
from tabagent.core.errors import TransportClosed
from tabagent.core.transport import Transport

__all__ = ["LoopbackTransport", "loopback_pair"]


class LoopbackTransport(Transport):
    """One end of a pair; holds a few messages per direction, then `send` waits."""

    def __init__(self, inbox: _Pipe, outbox: _Pipe) -> None:
        self._inbox = inbox
        self._outbox = outbox

    async def receive(self) -> str | bytes:
        """Return the next message that the other end sent."""
        return await self._inbox.get()

    async def send(self, message: str) -> None:
        """Pass one message to the other end."""
        await self._outbox.put(message)

    async def send_bytes(self, message: bytes) -> None:
        """Pass one binary frame to the other end."""
        await self._outbox.put(message)

    async def aclose(self) -> None:
        """Close both directions; the other end still gets what was sent before."""
        self._inbox.close()
        self._inbox.messages.clear()
        self._outbox.close()


def loopback_pair(capacity: int = 16) -> tuple[LoopbackTransport, LoopbackTransport]:
    """Return two joined transports; each direction holds `capacity` messages."""
    there, back = _Pipe(capacity), _Pipe(capacity)
    return LoopbackTransport(back, there), LoopbackTransport(there, back)


class _Pipe:
    """One direction: messages in order, at most `capacity`, one task at each end."""

    def __init__(self, capacity: int) -> None:
        self.messages: deque[str | bytes] = deque()
        self._capacity = capacity
        self._closed = False
        self._readable = Notify()
        self._writable = Notify()

    async def put(self, message: str | bytes) -> None:
        while not self._closed and len(self.messages) >= self._capacity:
            await self._writable.wait()
        if self._closed:
            raise TransportClosed
        self.messages.append(message)
        self._readable.notify()

    async def get(self) -> str | bytes:
        while not self.messages:
            if self._closed:
                raise TransportClosed
            await self._readable.wait()
        self._writable.notify()
        return self.messages.popleft()

    def close(self) -> None:
        self._closed = True
        self._readable.notify()
        self._writable.notify()
