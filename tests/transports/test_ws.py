"""The WebSocket at `/v1/responses`, over real sockets, with the echo backend behind it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import anyio
import pytest
from anyio import to_thread
from tabagent.config import Paths
from tabagent.core.access import AccessPolicy
from tabagent.core.backend import BackendConfig, ModelSpec
from tabagent.core.engine import Engine
from tabagent.core.recorder import Recorder
from tabagent.core.session import Session
from tabagent.origins import OriginStore
from tabagent.protocols.responses import ResponsesProtocol
from tabagent.serving import WebSocketProtocol
from tabagent_backends.echo import EchoBackend
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.raw_websocket import TEXT, connected, masked, upgraded
from tests.servers import websocket_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tabagent.core.requests import Principal
    from tabagent.core.transport import Transport

pytestmark = pytest.mark.anyio

ENDLESS = {"type": "response.create", "input": "word " * 40, "ignore_eos": True}


class Hasty(WebSocketProtocol):
    stall_timeout: ClassVar[float] = 0.05


class Client:
    """A stock WebSocket client that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(await self.connection.recv())
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        """Receive until an event of that type has come."""
        while (event := await self.receive())["type"] != kind:
            pass
        return event

    async def closed(self) -> int:
        """Receive until the server closes, and return the code that it gives."""
        try:
            while True:
                await self.connection.recv()
        except ConnectionClosed as closed:
            return 0 if closed.rcvd is None else closed.rcvd.code

    async def answer(self, text: str) -> str:
        """Ask on a lane of its own and return the whole answer."""
        await self.send(type="response.create", input=text, stream_id=text)
        while (event := await self.receive()).get("stream_id") != text or (
            event["type"] != "response.completed"
        ):
            pass
        return str(event["response"]["output"][0]["content"][0]["text"])


class EchoServer:
    """A server whose one model decodes one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port

    @classmethod
    @asynccontextmanager
    async def run(cls, **settings: Any) -> AsyncIterator[Self]:
        backends = {"echo": EchoBackend(BackendConfig(parallel=1))}
        async with (
            Engine(backends, [ModelSpec("demo", "echo:demo", "echo")]) as engine,
            Recorder(engine) as recorder,
        ):
            await engine.load("demo")

            async def handle(transport: Transport, name: str, principal: Principal) -> None:
                assert name == "responses"
                protocol = ResponsesProtocol(principal)
                await Session(transport, protocol, engine, recorder).run()

            with anyio.fail_after(20):
                async with websocket_server(handle, **settings) as port:
                    yield cls(port)

    @asynccontextmanager
    async def client(self, path: str = "/v1/responses", **options: Any) -> AsyncIterator[Client]:
        url = f"ws://127.0.0.1:{self.port}{path}"
        async with connect(url, ping_interval=None, **options) as connection:
            yield Client(connection)


async def test_two_lanes_stream_at_once_and_one_can_be_cancelled() -> None:
    async with EchoServer.run() as server, server.client() as client:
        await client.send(**ENDLESS, stream_id="a")
        await client.until("response.output_text.delta")
        await client.send(type="response.create", input="short answer", stream_id="b")
        await client.send(type="response.cancel", stream_id="a")
        ended: dict[str, dict[str, Any]] = {}
        while len(ended) < 2:
            event = await client.receive()
            if event["type"] in {"response.completed", "response.incomplete"}:
                ended[event["stream_id"]] = event["response"]
        assert ended["a"]["incomplete_details"]["reason"] == "cancelled"
        assert ended["b"]["output"][0]["content"][0]["text"] == "short answer"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_message"),
        ("{", "invalid_message"),
        ("[]", "invalid_message"),
        ("null", "invalid_message"),
        ('"text"', "invalid_message"),
        ("[" * 100_000, "invalid_message"),
        (b"\x00\xff", "invalid_message"),
        (b'{"type":"tabagent.ping"}', "invalid_message"),
        ("{}", "invalid_message"),
        ('{"type":"response.destroy"}', "unknown_type"),
        ('{"type":7}', "invalid_parameter"),
        ('{"type":"response.create"}', "invalid_parameter"),
        ('{"type":"response.create","input":"x","temperature":NaN}', "invalid_message"),
        ('{"type":"response.create","input":"x","temperature":-1}', "invalid_parameter"),
        ('{"type":"response.create","input":"x","temperature":1e999}', "invalid_parameter"),
        ('{"type":"response.create","input":"x","max_output_tokens":-5}', "invalid_parameter"),
        ('{"type":"response.create","input":"x","model":"none"}', "model_not_found"),
        ('{"type":"tabagent.model.load","model":"../../etc/passwd"}', "model_not_found"),
    ],
)
async def test_bad_input_is_told_and_the_connection_lives_on(
    message: str | bytes, code: str
) -> None:
    async with EchoServer.run() as server, server.client() as client:
        await client.connection.send(message)
        event = await client.receive()
        while event["type"] not in {"error", "response.failed"}:
            event = await client.receive()
        error = event["error"] if event["type"] == "error" else event["response"]["error"]
        assert error["code"] == code
        assert await client.answer("still here") == "still here"


async def test_a_message_beyond_the_bound_ends_its_connection_only() -> None:
    async with EchoServer.run(max_message_size=1000) as server, server.client() as other:
        async with server.client() as client:
            await client.connection.send("x" * 1001)
            assert await client.closed() == 1009
        assert await other.answer("still here") == "still here"


async def test_fragments_count_together() -> None:
    async with EchoServer.run(max_message_size=1000) as server, server.client() as client:
        await client.connection.send(["x" * 400] * 3)
        assert await client.closed() == 1009


async def test_nothing_is_compressed() -> None:
    async with EchoServer.run() as server, server.client(compression="deflate") as client:
        assert client.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in client.connection.response.headers


@pytest.mark.parametrize(
    ("offered", "answered"),
    [(None, None), (["realtime"], "realtime"), (["v1", "realtime"], "realtime"), (["v1"], None)],
)
async def test_the_sub_protocol_realtime_is_answered_when_offered(
    offered: list[str] | None, answered: str | None
) -> None:
    async with EchoServer.run() as server, server.client(subprotocols=offered) as client:
        assert client.connection.subprotocol == answered


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/v1/responses", {"Origin": "https://evil.test"}, 403, "origin_not_allowed"),
        ("/v1/realtime", {"Origin": "https://evil.test"}, 403, "origin_not_allowed"),
        ("/v1/realtime?call_id=c", {}, 501, "not_supported"),
    ],
)
async def test_a_refused_upgrade_is_an_http_answer_with_the_error_body(
    path: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with EchoServer.run() as server:
        with pytest.raises(InvalidStatus) as refused:
            async with server.client(path, additional_headers=headers):
                pass
        response = refused.value.response
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/json"
        assert response.body is not None
        error = json.loads(response.body)["error"]
        assert error.keys() == {"message", "type", "code", "param"}
        assert error["code"] == code


async def test_a_refused_extension_reads_its_pairing_code_from_the_answer(tmp_path: Path) -> None:
    paths = Paths.locate({"TABAGENT_HOME": str(tmp_path)})
    store = await to_thread.run_sync(OriginStore, paths)
    origin = {"Origin": f"chrome-extension://{'a' * 32}"}
    async with EchoServer.run(access=AccessPolicy(registry=store)) as server:
        with pytest.raises(InvalidStatus, match="403") as refused:
            async with server.client(additional_headers=origin):
                pass
        assert refused.value.response.body is not None
        error = json.loads(refused.value.response.body)["error"]
        assert error["reason"] == "approval_pending"
        store.approve(error["pairing_code"])
        async with server.client(additional_headers=origin) as client:
            assert await client.answer("hello") == "hello"


async def test_the_token_may_come_as_header_or_sub_protocol() -> None:
    access = AccessPolicy(token="secret", require_token=True)
    async with EchoServer.run(access=access) as server:
        with pytest.raises(InvalidStatus, match="401"):
            async with server.client():
                pass
        bearer = {"additional_headers": {"Authorization": "Bearer secret"}}
        key = {"subprotocols": ["realtime", "openai-insecure-api-key.secret"]}
        for options in (bearer, key):
            async with server.client(**options) as client:
                assert await client.answer("hello") == "hello"


async def test_an_idle_connection_gets_pings_that_nobody_has_to_answer() -> None:
    async with EchoServer.run(ping_interval=0.01) as server, server.client() as client:
        for _ in range(5):
            assert await client.receive() == {"type": "tabagent.ping"}
        assert await client.answer("hello") == "hello"


async def test_a_client_that_has_once_ponged_is_held_to_it() -> None:
    async with EchoServer.run(ping_interval=0.05) as server, server.client() as client:
        for _ in range(3):
            await client.until("tabagent.ping")
            await client.send(type="tabagent.pong")
        assert await client.closed() == 1001


async def test_a_client_may_ping_too() -> None:
    async with EchoServer.run() as server, server.client() as client:
        await client.send(type="tabagent.ping")
        assert await client.receive() == {"type": "tabagent.pong"}


async def test_a_client_that_vanishes_mid_stream_frees_its_slot() -> None:
    async with EchoServer.run() as server, server.client() as other:
        async with server.client() as client:
            await client.send(**ENDLESS)
            await client.until("response.output_text.delta")
            client.connection.transport.abort()
        assert await other.answer("next") == "next"


async def test_a_client_that_leaves_mid_stream_frees_its_slot() -> None:
    async with EchoServer.run() as server, server.client() as other:
        async with server.client(max_queue=None) as client:
            await client.send(**ENDLESS)
            await client.until("response.output_text.delta")
        assert await other.answer("next") == "next"


async def test_a_client_that_stops_reading_is_cut_off_and_frees_its_slot() -> None:
    # Long words: the answer fills every buffer on the way long before it ends.
    flood = ENDLESS | {"input": ("x" * 2000 + " ") * 40}
    async with EchoServer.run(ws=Hasty) as server, server.client() as other:
        async with connected(server.port) as stalled:
            await upgraded(stalled, "/v1/responses")
            await stalled.send(masked(TEXT, json.dumps(flood).encode()))
            assert await other.answer("next") == "next"
