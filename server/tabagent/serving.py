"""Uvicorn, made safe against peers that stall, drip or vanish, and quick to stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import anyio
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import HANDLED_SIGNALS

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from types import FrameType

    from websockets.frames import Frame

__all__ = ["HttpProtocol", "Server", "WebSocketProtocol", "server_config"]

log = logging.getLogger("tabagent.serving")

GRACE: Final = 1.0
"""Seconds that a closing connection may take to flush what it has to say."""

SHUTDOWN_TIMEOUT: Final = 1
"""Seconds that connections have to end after their last event, when the server stops."""


class _StallGuard(asyncio.Protocol):
    """Aborts a connection whose peer takes nothing: closing would wait for it forever."""

    stall_timeout: ClassVar[float] = 30.0

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stall_timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Start to watch whether the peer takes anything."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """Stop watching."""
        self._unwatch_writing()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the timers."""
        self._unwatch_writing()
        super().connection_lost(exc)

    def _watch_writing(self) -> None:
        pending = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(self.stall_timeout, self._check_writing, pending)

    def _unwatch_writing(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _check_writing(self, pending: int) -> None:
        if self.transport.get_write_buffer_size() < pending:
            self._watch_writing()
        else:
            peer = self.transport.get_extra_info("peername")
            log.info("cut off %s, which took nothing for %g s", peer, self.stall_timeout)
            self.transport.abort()


class HttpProtocol(_StallGuard, HttpToolsProtocol):
    """HTTP/1.1 with deadlines for headers and body, and a bound on connections and headers.

    Attributes:
        header_timeout: Seconds for the headers, and before them for the TLS handshake.
    """

    max_connections: ClassVar[int] = 512
    max_header_bytes: ClassVar[int] = 64 * 1024
    header_timeout: ClassVar[float] = 10.0
    body_timeout: ClassVar[float] = 60.0

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for headers; refuse whatever they ask when there are too many connections."""
        if len(self.connections) >= self.max_connections:
            self.app = _overloaded
            self.ws_protocol_class = None
        super().connection_made(transport)
        self._set_deadline(self.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the timers."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the headers are whole."""
        self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > self.max_header_bytes:
            self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        """Expect headers."""
        super().on_message_begin()
        self._in_headers = True
        self._set_deadline(self.header_timeout)

    def on_headers_complete(self) -> None:
        """Expect a body."""
        super().on_headers_complete()
        self._in_headers = False
        self._set_deadline(self.body_timeout)

    def on_message_complete(self) -> None:
        """Expect nothing until the next request."""
        super().on_message_complete()
        self._header_bytes = 0
        self._clear_deadline()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self._clear_deadline()
        super().handle_websocket_upgrade()

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class WebSocketProtocol(_StallGuard, WebSocketsSansIOProtocol):
    """WebSocket whose peer counts as alive as long as anything comes from it or goes to it.

    A missing pong ends the connection only once the peer has ever sent one.
    """

    _has_ponged = False
    _heard = False  # since the last ping
    _abort_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.debug = False  # it would log headers, the token among them, and every message
        self._app, self.app = self.app, self._run_app

    async def _run_app(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
        if self.initial_response is not None:  # a refusal; uvicorn takes it for no answer at all
            self.handshake_complete = True

    def data_received(self, data: bytes) -> None:
        """Note that the peer lives."""
        self._heard = True
        super().data_received(data)

    def send_keepalive_ping(self) -> None:
        """Listen anew."""
        self._heard = False
        super().send_keepalive_ping()

    def handle_pong(self, event: Frame) -> None:
        """Hold the peer to its pongs from now on."""
        self._has_ponged = True
        super().handle_pong(event)

    def keepalive_timeout(self) -> None:
        """Judge a peer that has not ponged in time."""
        taken = not self._has_ponged and not self.transport.get_write_buffer_size()
        if taken or self._heard:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self._abort_after(GRACE)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Let the closing handshake end, but not wait for ever."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._abort_after(GRACE if self.close_timer is None else self.close_timeout + GRACE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the timers."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)

    def _abort_after(self, seconds: float) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(seconds, self.transport.abort)


class Server(uvicorn.Server):
    """Ends the streams before the connections, and leaves with the caller's exit code."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self.accepting = anyio.Event()
        self._end_streams = end_streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        await super().startup([])
        tls = self.config.ssl
        protocol = cast("type[HttpProtocol]", self.config.http_protocol_class)
        connection = functools.partial(
            protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        for listening in sockets or []:
            # Not by uvicorn, which gives a TLS handshake a minute.
            server = await asyncio.get_running_loop().create_server(
                connection,
                sock=listening,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else protocol.header_timeout,
                backlog=self.config.backlog,
            )
            self.servers.append(server)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let every stream end, close the connections, abort what is left."""
        for server in self.servers:
            server.close()
        await self._end_streams()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal; at the second, whatever still runs is left where it is."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM; a stop that was asked for is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals go to the main thread only
            return
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def server_config(
    app: Callable[..., Any],
    *,
    max_message_size: int,
    trusted_proxies: Sequence[str],
    tls: ssl.SSLContext | None = None,
) -> uvicorn.Config:
    """Return uvicorn's settings for `app`."""
    return uvicorn.Config(
        app,
        loop="none",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=max_message_size,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        ssl_context_factory=None if tls is None else lambda config, default: tls,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )


async def _overloaded(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a request on a connection beyond the bound."""
    body = (
        b'{"error":{"message":"too many connections","type":"rate_limit_error",'
        b'"code":"overloaded","param":null}}'
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})
