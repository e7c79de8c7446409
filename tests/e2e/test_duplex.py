"""A real server's duplex connections: the extension's messages, and answers that survive a drop."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.connection import Connection

    from tests.gguf_fixtures import ChainModel

WHOLE = "".join(f" {number}" for number in range(600))


class Socket:
    """One WebSocket that speaks JSON."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=30))
        return message

    def until(self, **fields: Any) -> list[dict[str, Any]]:
        """Receive up to a message that has `fields`."""
        heard = [self.receive()]
        while not fields.items() <= heard[-1].items():
            heard.append(self.receive())
        return heard


@contextmanager
def opened(server: str, protocol: str) -> Iterator[Socket]:
    with connect(f"{server.replace('http', 'ws')}/v1/{protocol}", proxy=None) as connection:
        yield Socket(connection)


def generate(socket: Socket, number: int, **fields: Any) -> None:
    messages = [{"role": "user", "content": "count"}]
    socket.send(action="generate", model="long", messages=messages, requestId=number, **fields)


def test_the_extension_streams_stops_and_answers_whole(server: str) -> None:
    with opened(server, "extension") as socket:
        generate(socket, 1, settings={"max_new_tokens": 20})
        accepted, *updates, complete = socket.until(type="generationComplete")
        assert accepted["status"] == "success"
        text = "".join(update["payload"]["token"] for update in updates)
        assert text == complete["payload"]["output"]
        assert WHOLE.startswith(text)
        assert complete["payload"]["numTokens"] == 20
        generate(socket, 2)
        socket.until(type="generationUpdate")
        socket.send(action="stop_generation", requestId=2)
        stopped = socket.until(type="generationStopped")[-1]["payload"]
        assert stopped["requestId"] == 2
    with opened(server, "extension") as socket:
        socket.send(action="generate", model="long", prompt="count")
        reply = socket.receive()
        assert reply["payload"]["output"] == WHOLE


def test_the_extension_trims_what_does_not_fit(server: str) -> None:
    turns = [{"role": "user", "content": "x " * 400}, {"role": "assistant", "content": "y"}] * 60
    turns.append({"role": "user", "content": "count"})
    with opened(server, "extension") as socket:
        socket.send(action="generate", model="chain", messages=turns, requestId=1)
        socket.until(type="generationComplete")


def test_the_extension_sees_the_system_and_changes_models(
    server: str, chain_model: ChainModel
) -> None:
    with opened(server, "extension") as socket:
        socket.send(action="get_system_info")
        assert "runtime" in socket.receive()["payload"]
        socket.send(action="unload_model", model="chain")
        assert socket.receive()["payload"]["isReady"] is False
        socket.send(action="load_model", modelPath="chain", loadId="l")
        *progress, reply = socket.until(action="load_model")
        assert [event["payload"]["loadId"] for event in progress] == ["l"] * len(progress)
        assert progress[-1]["type"] == "workerReady"
        assert reply["payload"]["executionProvider"] == "cpu"


def test_a_dropped_socket_loses_and_doubles_nothing(server: str) -> None:
    with opened(server, "responses") as socket:
        socket.send(
            type="response.create",
            model="long",
            input="count",
            tabagent={"resumable": True, "events": False},
        )
        heard = socket.until(type="response.output_text.delta")
    response_id = heard[0]["response"]["id"]
    for _ in range(3):
        with opened(server, "responses") as socket:
            last = heard[-1]["sequence_number"]
            socket.send(type="response.resume", response_id=response_id, starting_after=last)
            heard += [socket.receive() for _ in range(2)]
    with opened(server, "responses") as socket:
        last = heard[-1]["sequence_number"]
        socket.send(type="response.resume", response_id=response_id, starting_after=last)
        heard += socket.until(type="response.completed")
    assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
    deltas = [event["delta"] for event in heard if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == WHOLE
