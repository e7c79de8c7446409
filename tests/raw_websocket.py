"""A WebSocket client of a few lines that does only what it is told: no pongs, no reading ahead."""

from __future__ import annotations

import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

__all__ = [
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "connected",
    "frame",
    "handshake",
    "masked",
    "rest",
    "upgraded",
]

PING: Final = 0x89
PONG: Final = 0x8A
CLOSE: Final = 0x88
TEXT: Final = 0x81


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[SocketStream]:
    """Connect to a server of this machine."""
    with anyio.fail_after(20):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            yield stream


def handshake(path: str) -> bytes:
    """Return the request for an upgrade."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


async def upgraded(stream: SocketStream, path: str) -> None:
    """Upgrade a connection."""
    await stream.send(handshake(path))
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += await stream.receive(1)
    assert received.startswith(b"HTTP/1.1 101")


def masked(kind: int, payload: bytes) -> bytes:
    """Return a frame whose mask is zero."""
    if len(payload) < 126:
        size = bytes([0x80 | len(payload)])
    else:
        size = b"\xff" + struct.pack("!Q", len(payload))
    return bytes([kind]) + size + bytes(4) + payload


async def frame(stream: SocketStream) -> tuple[int, bytes]:
    """Read one short frame: its first byte and its payload."""
    head = await _exactly(stream, 2)
    return head[0], await _exactly(stream, head[1])


async def rest(stream: SocketStream) -> bytes:
    """Read until the server closes or resets the connection."""
    received = b""
    try:
        while True:
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received


async def _exactly(stream: SocketStream, count: int) -> bytes:
    received = b""
    while len(received) < count:
        received += await stream.receive(count - len(received))
    return received
