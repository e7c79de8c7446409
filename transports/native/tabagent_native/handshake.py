"""The first frame in each direction: who calls, and who answers."""

from __future__ import annotations

import hmac
import os
import struct
import sys
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
from msgspec import Struct
from tabagent import __version__
from tabagent.core.errors import AccessError, ProtocolError, RequestError

from .framing import encode_frame
from .shim import PROTOCOL_VERSION, receive_exactly

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .transport import FrameConnection

__all__ = ["HelloReply", "greet", "receive_greeting"]

HELLO_TIMEOUT: Final = 5.0
"""Seconds that either side waits for the other's first frame."""


class Hello(Struct, tag_field="type", tag="tabagent.hello"):
    """The first frame of a connection.

    Attributes:
        protocol: Version of this handshake.
        origin: The extension whose port this is; empty for local software.
        key: The endpoint's key, where it has one.
    """

    protocol: int
    origin: str = ""
    key: str = ""


class HelloReply(Struct, tag_field="type", tag="tabagent.hello"):
    """The server's first frame to a connection that it takes."""

    protocol: int
    version: str
    pid: int


async def receive_greeting(connection: FrameConnection, key: str) -> str | None:
    """Answer a hello; return the extension that calls, None for local software.

    :raises TabagentError: why the connection is not taken.
    """
    hello = await _receive_hello(connection)
    if connection.peer_uid() not in {None, _own_uid()}:
        raise AccessError("origin_not_allowed", "this socket belongs to another user")
    if not hmac.compare_digest(hello.key.encode(), key.encode()):
        raise AccessError("token_required", "the key of this endpoint is missing or wrong")
    if hello.protocol != PROTOCOL_VERSION:
        raise RequestError(
            "not_supported",
            f"the native host speaks version {hello.protocol} and the server {PROTOCOL_VERSION}; "
            "run: tabagent host install, then: tabagent stop",
        )
    reply = HelloReply(PROTOCOL_VERSION, __version__, os.getpid())
    await connection.send(msgspec.json.encode(reply))
    return hello.origin or None


def greet(endpoint: Endpoint) -> HelloReply:
    """Say hello as local software and return the server's answer; blocks.

    :raises OSError: when there is no answer, or one that is not understood.
    """
    connection = endpoint.socket
    connection.settimeout(HELLO_TIMEOUT)
    hello = Hello(PROTOCOL_VERSION, key=endpoint.key)
    connection.sendall(encode_frame(msgspec.json.encode(hello)))
    (size,) = struct.unpack("=I", receive_exactly(connection, 4))
    try:
        return msgspec.json.decode(receive_exactly(connection, size), type=HelloReply)
    except msgspec.DecodeError as error:
        raise ConnectionRefusedError(f"the server speaks another version: {error}") from None


async def _receive_hello(connection: FrameConnection) -> Hello:
    try:
        with anyio.fail_after(HELLO_TIMEOUT):
            frame = await connection.receive()
        return msgspec.json.decode(frame if isinstance(frame, bytes) else b"", type=Hello)
    except (TimeoutError, msgspec.DecodeError, RecursionError):
        text = "a connection starts with tabagent.hello"
        raise ProtocolError("invalid_message", text) from None


def _own_uid() -> int | None:
    return None if sys.platform == "win32" else os.geteuid()
