"""Servers on real sockets inside the test's own event loop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from tabagent.core.access import AccessPolicy
from tabagent.core.transport import ListenerContext
from tabagent.serving import Server, server_config
from tabagent.sockets import listen
from tabagent_ws import WebSocketListener

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import AsyncIterator, Callable

    from tabagent.core.transport import ConnectionHandler

__all__ = ["http_server", "websocket_server"]


@asynccontextmanager
async def http_server(
    app: Callable[..., Any],
    *,
    max_message_size: int = 1024 * 1024,
    ping_interval: float = 3600.0,
    http: type[asyncio.Protocol] | None = None,
    ws: type[asyncio.Protocol] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve an ASGI application at 127.0.0.1; yields the port."""
    config = server_config(app, max_message_size=max_message_size, trusted_proxies=(), tls=tls)
    config.http = http or config.http
    config.ws = ws or config.ws
    config.ws_ping_interval = config.ws_ping_timeout = ping_interval
    server = Server(config, anyio.lowlevel.checkpoint)
    sockets = listen("127.0.0.1", 0)
    ended = anyio.Event()

    async def serve() -> None:
        await server.serve(sockets)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await server.accepting.wait()
        try:
            yield sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await ended.wait()


@asynccontextmanager
async def websocket_server(
    handle: ConnectionHandler,
    *,
    access: AccessPolicy | None = None,
    max_message_size: int = 1024 * 1024,
    ping_interval: float = 3600.0,
    ws: type[asyncio.Protocol] | None = None,
) -> AsyncIterator[int]:
    """Run the WebSocket listener alone; yields the port."""
    context = ListenerContext(access or AccessPolicy(), handle, max_message_size, ping_interval)
    app = Starlette(routes=WebSocketListener(context).routes())
    async with http_server(app, max_message_size=max_message_size, ws=ws) as port:
        yield port
