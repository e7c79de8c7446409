"""Peers that stall, drip, flood or fall silent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, cast

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from tabagent.serving import HttpProtocol, WebSocketProtocol

from tests.conftest import BOTH_LOOPS, Loop
from tests.raw_websocket import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    connected,
    frame,
    handshake,
    masked,
    rest,
    upgraded,
)
from tests.servers import http_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE = handshake("/ws")


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Loop:
    return cast("Loop", request.param)


class Hasty(HttpProtocol):
    header_timeout: ClassVar[float] = 0.05
    body_timeout: ClassVar[float] = 0.05
    stall_timeout: ClassVar[float] = 0.05


class Single(HttpProtocol):
    max_connections: ClassVar[int] = 1


class HastyWebSocket(WebSocketProtocol):
    stall_timeout: ClassVar[float] = 0.05


class App:
    """Answers, streams for ever, and echoes; notes when a stream ends."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.asgi = Starlette(
            routes=[
                Route("/", self._hello, methods=["GET", "POST"]),
                Route("/flood", self._flood),
                WebSocketRoute("/ws", self._echo),
                WebSocketRoute("/flood", self._flood_websocket),
            ]
        )

    async def _hello(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"read {len(await request.body())}")

    async def _flood(self, request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
                    await anyio.lowlevel.checkpoint()
            finally:
                self.ended.set()

        return StreamingResponse(pieces())

    async def _echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    async def _flood_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text("x" * 65536)
                await anyio.lowlevel.checkpoint()
        finally:
            self.ended.set()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        GET + b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf",
    ],
)
async def test_who_does_not_finish_a_request_in_time_is_cut_off(sent: bytes) -> None:
    async with http_server(App().asgi, http=Hasty) as port, connected(port) as stream:
        if sent:
            await stream.send(sent)
        await rest(stream)


@pytest.mark.parametrize("header", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
async def test_a_slow_answer_is_no_slow_request(header: bytes) -> None:
    app = App()
    async with http_server(app.asgi, http=Hasty) as port, connected(port) as stream:
        await stream.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n")
        for _ in range(500):  # takes many times the deadlines, as long as something moves
            await stream.receive()
        assert not app.ended.is_set()


async def test_a_connection_serves_one_request_after_another() -> None:
    async with http_server(App().asgi) as port, connected(port) as stream:
        for _ in range(3):
            await stream.send(GET)
            received = b""
            while b"read 0" not in received:
                received += await stream.receive()
            assert received.startswith(b"HTTP/1.1 200")


async def test_headers_without_an_end_are_refused() -> None:
    async with http_server(App().asgi) as port, connected(port) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000)
        assert (await rest(stream)).startswith(b"HTTP/1.1 400")


async def test_a_big_body_right_behind_its_headers_is_no_long_header() -> None:
    body = b"x" * 200_000
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with http_server(App().asgi) as port, connected(port) as stream:
        await stream.send(head + body)
        received = b""
        while b"read 200000" not in received:
            received += await stream.receive()


@pytest.mark.parametrize("request_", [GET, HANDSHAKE])
async def test_beyond_the_bound_connections_are_told_to_come_back(request_: bytes) -> None:
    async with http_server(App().asgi, http=Single) as port, connected(port) as first:
        await upgraded(first, "/ws")
        async with connected(port) as second:
            await second.send(request_)
            head, _, body = (await rest(second)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 1" in head
        assert json.loads(body)["error"]["code"] == "overloaded"
        await first.send(masked(TEXT, b"still here"))
        assert await frame(first) == (TEXT, b"still here")


@pytest.mark.parametrize("request_", [GET, HANDSHAKE])
async def test_a_peer_that_takes_nothing_is_cut_off(request_: bytes) -> None:
    app = App()
    path = b"GET /flood "
    async with http_server(app.asgi, http=Hasty, ws=HastyWebSocket) as port:
        async with connected(port) as stream:
            await stream.send(path + request_.split(b" ", 2)[2])
            await app.ended.wait()


async def test_a_peer_that_never_pongs_lives_on() -> None:
    async with http_server(App().asgi, ping_interval=0.02) as port, connected(port) as stream:
        await upgraded(stream, "/ws")
        for _ in range(6):
            kind, _ = await frame(stream)
            assert kind == PING
        await stream.send(masked(TEXT, b"here"))
        while (received := await frame(stream)) != (TEXT, b"here"):
            assert received[0] == PING


async def test_a_peer_that_has_ponged_and_falls_silent_is_gone() -> None:
    async with http_server(App().asgi, ping_interval=0.02) as port, connected(port) as stream:
        await upgraded(stream, "/ws")
        _, payload = await frame(stream)
        await stream.send(masked(PONG, payload))
        while (received := await frame(stream))[0] == PING:
            pass
        assert received[0] == CLOSE
        assert int.from_bytes(received[1][:2], "big") == 1011
        await rest(stream)


async def test_a_message_is_as_good_as_a_pong() -> None:
    # The interval is also the time to answer in: long enough for a busy machine.
    async with http_server(App().asgi, ping_interval=0.5) as port, connected(port) as stream:
        await upgraded(stream, "/ws")
        _, payload = await frame(stream)
        await stream.send(masked(PONG, payload))
        pings = 0
        while pings < 3:
            kind, _ = await frame(stream)
            assert kind in {PING, TEXT}
            if kind == PING:
                pings += 1
                await stream.send(masked(TEXT, b"busy"))


async def test_stopping_closes_what_is_open() -> None:
    async with http_server(App().asgi) as port:
        stream: Any = await anyio.connect_tcp("127.0.0.1", port)
        await upgraded(stream, "/ws")
    async with stream:
        kind, payload = await frame(stream)
        assert (kind, int.from_bytes(payload[:2], "big")) == (CLOSE, 1012)
        assert await rest(stream) == b""
