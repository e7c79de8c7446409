"""Peers that stall or talk nonsense over TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import anyio
import pytest
from anyio.streams.tls import TLSStream
from tabagent.certificate import LOCAL_NAMES, make_certificate
from tabagent.config import Config
from tabagent.serving import HttpProtocol
from tabagent.tls import client_context, server_context

from tests.conftest import BOTH_LOOPS, Loop
from tests.raw_websocket import connected, handshake, rest
from tests.servers import http_server
from tests.test_serving import GET, App, HastyWebSocket

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Hasty(HttpProtocol):
    stall_timeout: ClassVar[float] = 0.05


class HastyGreeter(HttpProtocol):
    header_timeout: ClassVar[float] = 0.05


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Loop:
    return cast("Loop", request.param)


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and its client's."""
    made = make_certificate(tmp_path, LOCAL_NAMES, replace=False)
    server = server_context(Config(tls_cert=str(made.cert), tls_key=str(made.key)))
    assert server is not None
    return server, client_context(str(made.cert))


@pytest.mark.parametrize("request_", [GET, handshake("/ws")])
async def test_a_peer_that_takes_nothing_is_cut_off(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], request_: bytes
) -> None:
    app, (server, client) = App(), contexts
    async with http_server(app.asgi, http=Hasty, ws=HastyWebSocket, tls=server) as port:
        async with connected(port) as raw:
            stream = await TLSStream.wrap(raw, server_side=False, ssl_context=client)
            await stream.send(b"GET /flood " + request_.split(b" ", 2)[2])
            await app.ended.wait()
            await raw.aclose()


async def test_who_begins_no_handshake_is_cut_off(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, _ = contexts
    async with http_server(App().asgi, http=HastyGreeter, tls=server) as port:
        async with connected(port) as silent:
            with anyio.fail_after(20):
                assert await rest(silent) == b""


async def test_who_speaks_no_tls_is_turned_away_and_others_are_served(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = contexts
    async with http_server(App().asgi, tls=server) as port:
        async with connected(port) as plain:
            await plain.send(GET)
            assert not (await rest(plain)).startswith(b"HTTP")
        async with connected(port) as raw:
            stream = await TLSStream.wrap(raw, server_side=False, ssl_context=client)
            await stream.send(GET)
            with anyio.fail_after(20):
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            await raw.aclose()
