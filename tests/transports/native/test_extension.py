"""An extension on its port: its message set, one-shot messages, and answers that change doors."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.transports.native.ports import ORIGIN
from tests.transports.native.test_daemon import daemon as daemon  # a fixture
from tests.transports.native.test_daemon import in_thread

if TYPE_CHECKING:
    from tests.transports.native.ports import Port
    from tests.transports.native.test_daemon import Daemon

pytestmark = pytest.mark.anyio

MODEL = "echo:x"
COUNT = " ".join(map(str, range(500)))


async def until(port: Port, **fields: Any) -> list[Any]:
    """Receive up to a message that has `fields`."""
    heard = [await port.answer()]
    while not fields.items() <= heard[-1].items():
        heard.append(await port.answer())
    return heard


async def test_a_generation_streams_beside_a_ping(daemon: Daemon) -> None:
    async with daemon.port() as port:
        assert (await port.ask({"action": "ping"}))["payload"]["response"] == "pong"
        await port.send(json.dumps({"action": "generate", "prompt": COUNT, "requestId": 1}))
        await port.send(json.dumps({"action": "ping", "requestId": 2}))
        heard = await until(port, type="generationComplete")
    updates = [each["payload"] for each in heard if each.get("type") == "generationUpdate"]
    assert "".join(update["token"] for update in updates) == COUNT
    assert {update["requestId"] for update in updates} == {1}
    assert {each["requestId"] for each in heard if "status" in each} == {1, 2}


async def test_a_single_message_is_answered_in_the_first_frame(daemon: Daemon) -> None:
    async with daemon.port() as port:
        reply = await port.ask({"action": "generate", "prompt": "hello"})
        assert (reply["status"], reply["payload"]["output"]) == ("success", "hello")
    async with daemon.port() as port:
        reply = await port.ask({"action": "load_model", "modelPath": MODEL})
        assert (reply["status"], reply["payload"]["modelPath"]) == ("success", MODEL)


async def test_an_answer_goes_on_over_a_websocket_when_its_port_is_gone(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    await in_thread(partial(daemon.configure, port=int(address.rpartition(":")[2])))
    async with daemon.port() as port:
        create = {"type": "response.create", "input": COUNT, "tabagent": {"resumable": True}}
        await port.send(json.dumps(create))
        heard = await until(port, type="response.output_text.delta")
    heard = [event for event in heard if "sequence_number" in event]
    origin = Origin(ORIGIN.removesuffix("/"))  # approved by the manifest
    async with connect(f"ws://{address}/v1/responses", origin=origin) as websocket:
        resume = {
            "type": "response.resume",
            "response_id": heard[0]["response"]["id"],
            "starting_after": heard[-1]["sequence_number"],
        }
        await websocket.send(json.dumps(resume))
        while heard[-1]["type"] != "response.completed":
            heard.append(json.loads(await websocket.recv()))
    assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
    deltas = [event["delta"] for event in heard if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == COUNT
