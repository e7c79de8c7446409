"""One server, one GGUF, every door: no client can tell which way its answer came."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.e2e.conftest import serving
from tests.transports.native.ports import DEADLINE, Home
from tests.transports.webrtc.peers import call_http, connected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.gguf_fixtures import ChainModel

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="the native port needs a POSIX shim"),
]

REQUEST = {"input": "Once upon a time", "temperature": 0, "max_output_tokens": 300}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def port(home: Home, long_chain_model: ChainModel) -> Iterator[int]:
    with serving(home.root, f"--model=long={long_chain_model.path}") as address:
        port = urlsplit(address).port
        assert port is not None
        yield port


async def read(receive: Callable[[], Awaitable[str | bytes]]) -> list[dict[str, Any]]:
    """Read the events of one answer."""
    events: list[dict[str, Any]] = []
    with anyio.fail_after(DEADLINE):
        while not events or events[-1]["type"] not in {"response.completed", "response.incomplete"}:
            events.append(json.loads(await receive()))
    return events


async def over_http(port: int) -> list[dict[str, Any]]:
    body = json.dumps(REQUEST | {"stream": True}).encode()
    headers = {"Content-Type": "application/json"}
    answer = await call_http(port, "POST", "/v1/responses", body, headers)
    lines = answer.body.decode().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


async def over_websocket(port: int) -> list[dict[str, Any]]:
    async with connect(f"ws://127.0.0.1:{port}/v1/responses", proxy=None) as socket:
        await socket.send(json.dumps({"type": "response.create", **REQUEST}))
        return await read(socket.recv)


async def over_webrtc(port: int) -> list[dict[str, Any]]:
    async with connected(port) as (_, channel):
        await channel.send(json.dumps({"type": "response.create", **REQUEST}))
        return await read(channel.receive)


async def over_native_messaging(home: Home) -> list[dict[str, Any]]:
    async with home.port(env={"TABAGENT_HOME": str(home.root)}) as port:
        await port.send(json.dumps({"type": "response.create", **REQUEST}))
        return await read(port.receive)


def told(events: list[dict[str, Any]]) -> tuple[str, list[str], dict[str, Any]]:
    """The text, the kinds of events in order, and the usage: all that a client sees."""
    responses = [event for event in events if event["type"].startswith("response.")]
    deltas = [event for event in responses if event["type"] == "response.output_text.delta"]
    kinds = list(dict.fromkeys(event["type"] for event in responses))
    return "".join(event["delta"] for event in deltas), kinds, responses[-1]["response"]["usage"]


async def test_the_same_answer_comes_through_every_door(
    home: Home, port: int, long_chain_model: ChainModel
) -> None:
    first = told(await over_http(port))
    assert long_chain_model.answer.startswith(first[0])
    assert first[2]["output_tokens"] == REQUEST["max_output_tokens"]
    assert told(await over_websocket(port)) == first
    assert told(await over_webrtc(port)) == first
    assert told(await over_native_messaging(home)) == first
