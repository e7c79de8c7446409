"""Accepts the shims that browsers start, and hands each port to the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import anyio
from anyio import to_thread
from tabagent.core.errors import TabagentError, TransportClosed
from tabagent.core.transport import Listener, RunningServer

from .endpoint import EndpointError, connect, open_endpoint
from .handshake import greet, receive_greeting
from .transport import FrameConnection, NativeTransport

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import TaskGroup
    from tabagent.core.transport import ListenerContext

    from .endpoint import Endpoint

__all__ = ["NativeListener"]

log = logging.getLogger("tabagent.native")


class NativeListener(Listener):
    """Listens on a socket that only this user reaches; each connection is one browser port."""

    name: ClassVar[str] = "native"

    def __init__(self, context: ListenerContext) -> None:
        super().__init__(context)
        self.listening = anyio.Event()
        """Set once shims can connect."""

    @classmethod
    def find_server(cls, run: Path) -> RunningServer | None:
        """Return the server of this user that listens in `run`; blocks while it answers."""
        try:
            endpoint = connect(run)
            with endpoint.socket:
                reply = greet(endpoint)
        except OSError:
            return None
        return RunningServer(reply.pid, reply.version)

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
        # Filled by callbacks of the event loop, which may not start tasks of anyio's.
        accepted: asyncio.Queue[FrameConnection] = asyncio.Queue()
        protocol = partial(FrameConnection, self.context.max_message_size, accepted.put_nowait)
        loop = asyncio.get_running_loop()
        is_unix = endpoint.socket.family != socket.AF_INET
        create_server = loop.create_unix_server if is_unix else loop.create_server
        async with await create_server(protocol, sock=endpoint.socket):
            self.listening.set()
            while True:
                connections.start_soon(self._run, await accepted.get(), endpoint.key)

    async def _run(self, connection: FrameConnection, key: str) -> None:
        transport = NativeTransport(connection, self.context.max_message_size)
        try:
            principal = self.context.access.judge_native(await receive_greeting(connection, key))
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
