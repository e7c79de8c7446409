"""Accepts the shims that browsers start, and hands each port to the server."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import anyio
import msgspec
from anyio import to_thread
from msgspec import Struct
from tabagent import __version__
from tabagent.core.errors import (
    AccessError,
    ProtocolError,
    RequestError,
    TabagentError,
    TransportClosed,
)
from tabagent.core.transport import Listener

from .endpoint import EndpointError, open_endpoint
from .shim import PROTOCOL_VERSION
from .transport import FrameConnection, NativeTransport

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from tabagent.core.requests import Principal
    from tabagent.core.transport import ListenerContext

    from .endpoint import Endpoint

__all__ = ["NativeListener"]

log = logging.getLogger("tabagent.native")

HELLO_TIMEOUT: Final = 5.0
"""Seconds that a connection may take to say hello."""


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


class NativeListener(Listener):
    """Listens on a socket that only this user reaches; each connection is one browser port."""

    name: ClassVar[str] = "native"

    def __init__(self, context: ListenerContext) -> None:
        super().__init__(context)
        self.listening = anyio.Event()
        """Set once shims can connect."""

    async def serve(self) -> None:
        """Accept connections until cancelled; returns at once where another server does."""
        folder = self.context.run
        if folder is None:
            return
        resources = contextlib.ExitStack()
        try:
            opening = partial(resources.enter_context, open_endpoint(folder))
            endpoint = await to_thread.run_sync(opening)
            async with anyio.create_task_group() as connections:
                await self._accept(endpoint, connections)
        except EndpointError as error:
            log.warning("no native messaging: %s", error)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(resources.close)

    async def _accept(self, endpoint: Endpoint, connections: TaskGroup) -> None:
        def on_connect(connection: FrameConnection) -> None:
            connections.start_soon(self._run, connection, endpoint.key)

        loop = asyncio.get_running_loop()
        is_unix = endpoint.listening.family != socket.AF_INET
        create_server = loop.create_unix_server if is_unix else loop.create_server
        protocol = partial(FrameConnection, self.context.max_message_size, on_connect)
        async with await create_server(protocol, sock=endpoint.listening):
            self.listening.set()
            await anyio.sleep_forever()

    async def _run(self, connection: FrameConnection, key: str) -> None:
        transport = NativeTransport(connection, self.context.max_message_size)
        try:
            principal = await self._shake_hands(connection, key)
            protocol = await transport.choose_protocol()
            await self.context.handle(transport, protocol, principal)
        except TabagentError as error:
            with contextlib.suppress(TransportClosed):
                await transport.refuse(error)
        except TransportClosed:
            pass
        except Exception:
            log.exception("a native connection failed")
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()

    async def _shake_hands(self, connection: FrameConnection, key: str) -> Principal:
        if connection.peer_uid() not in {None, _own_uid()}:
            raise AccessError("origin_not_allowed", "this socket belongs to another user")
        hello = await _receive_hello(connection)
        if not hmac.compare_digest(hello.key.encode(), key.encode()):
            raise AccessError("token_required", "the key of this endpoint is missing or wrong")
        if hello.protocol != PROTOCOL_VERSION:
            text = (
                f"the native host speaks version {hello.protocol} and the server "
                f"{PROTOCOL_VERSION}; run: tabagent host install, then: tabagent stop"
            )
            raise RequestError("not_supported", text)
        reply = HelloReply(PROTOCOL_VERSION, __version__, os.getpid())
        await connection.send(msgspec.json.encode(reply))
        return self.context.access.judge_native(hello.origin or None)


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
