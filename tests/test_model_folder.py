"""Pulls and deletions on a running server, over each dialect, from a Hub of the tests' own."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tabagent.core.access import AccessPolicy
from tabagent.core.backend import ModelSpec
from tabagent.core.engine import Engine
from tabagent.core.recorder import Recorder
from tabagent.core.requests import LOCAL, Principal
from tabagent.core.session import Session
from tabagent.http import build_app
from tabagent.model_folder import ModelFolder
from tabagent.protocols.extension import ExtensionProtocol
from tabagent.protocols.responses import ResponsesProtocol
from tabagent.testing import ScriptedBackend, loopback_pair

from tests.http.client import Client
from tests.hub.local_hub import Repo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tabagent.core.protocol import Protocol
    from tabagent.core.transport import Transport
    from tabagent.models import NamedModel

    from tests.hub.local_hub import LocalHub

pytestmark = pytest.mark.anyio

PULL = {"type": "tabagent.model.pull", "model": "hf:org/repo", "stream_id": "p"}


class Peer:
    """The far side of a connection."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, **message: Any) -> None:
        await self._transport.send(json.dumps(message))

    async def receive(self) -> Any:
        with anyio.fail_after(30):
            return json.loads(await self._transport.receive())

    async def until(self, **fields: Any) -> list[Any]:
        """All messages up to the first that has these fields."""
        messages = [await self.receive()]
        while not fields.items() <= messages[-1].items():
            messages.append(await self.receive())
        return messages


class House:
    """A server's engine and models folder, and connections to it."""

    def __init__(self, folder: Path, engine: Engine, recorder: Recorder, tasks: Any) -> None:
        self.folder = folder
        self.engine = engine
        self.library = ModelFolder(folder, engine, _spec_of)
        self._recorder = recorder
        self._tasks = tasks

    def connect(self, dialect: type[Protocol], principal: Principal = LOCAL) -> Peer:
        near, far = loopback_pair(16)
        session = Session(near, dialect(principal), self.engine, self._recorder, dict, self.library)
        self._tasks.start_soon(session.run)
        return Peer(far)

    def client(self) -> Client:
        app = build_app(self.engine, access=AccessPolicy(), system_info=dict, library=self.library)
        return Client(app)

    def models(self) -> list[str]:
        return [model.id for model in self.engine.models()]


def _spec_of(model: NamedModel) -> ModelSpec:
    return ModelSpec(model.id, model.source, "scripted")


@pytest.fixture
async def house(tmp_path: Path, hub: LocalHub) -> AsyncIterator[House]:
    hub.repos["org/repo"] = Repo({"m-Q8_0.gguf": b"GGUF" * 100})
    async with open_house(tmp_path / "models") as house:
        yield house


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    given = ModelSpec("given", "scripted:x", "scripted")
    async with (
        Engine({"scripted": ScriptedBackend()}, [given]) as engine,
        Recorder(engine) as recorder,
        anyio.create_task_group() as tasks,
    ):
        await engine.load("given")
        yield House(folder, engine, recorder, tasks)
        tasks.cancel_scope.cancel()


class TestResponses:
    async def test_a_pull_tells_its_progress_and_the_model_can_be_loaded(
        self, house: House
    ) -> None:
        peer = house.connect(ResponsesProtocol)
        await peer.send(**PULL)
        *progress, end = await peer.until(type="tabagent.model.pull")
        assert {message["type"] for message in progress} == {"tabagent.model.pull.progress"}
        last = {"model": "hf:org/repo", "file": "m-Q8_0.gguf", "done": 400, "total": 400}
        assert progress[-1] == {"type": progress[-1]["type"], **last, "stream_id": "p"}
        assert (end["status"], end["model"]["id"], end["stream_id"]) == ("completed", "m-Q8_0", "p")
        await peer.send(type="tabagent.model.load", model="m-Q8_0")
        loaded = (await peer.until(type="tabagent.model.load"))[-1]
        assert loaded["model"]["state"] == "ready"

    async def test_a_pull_is_cancelled_with_its_lane(self, house: House, hub: LocalHub) -> None:
        hub.hold_after = 1
        peer = house.connect(ResponsesProtocol)
        await peer.send(**PULL)
        await peer.until(type="tabagent.model.pull.progress")
        await peer.send(type="response.cancel", stream_id="p")
        end = (await peer.until(type="tabagent.model.pull"))[-1]
        assert (end["status"], end["model"]) == ("cancelled", None)
        assert house.models() == ["given"]
        hub.hold_after = None
        await peer.send(**PULL)
        assert (await peer.until(type="tabagent.model.pull"))[-1]["status"] == "completed"

    async def test_a_model_is_deleted_and_who_asked_is_told(self, house: House) -> None:
        peer = house.connect(ResponsesProtocol)
        await peer.send(**PULL)
        await peer.until(type="tabagent.model.pull")
        await peer.send(type="tabagent.model.delete", model="m-Q8_0", stream_id="d")
        assert (await peer.receive()) == {"type": "tabagent.model.delete", "stream_id": "d"}
        assert house.models() == ["given"]
        await peer.send(type="tabagent.model.delete", model="m-Q8_0", stream_id="d")
        message = await peer.receive()
        assert (message["error"]["code"], message["stream_id"]) == ("model_not_found", "d")

    async def test_a_pull_needs_the_scope_manage(self, house: House) -> None:
        peer = house.connect(ResponsesProtocol, Principal("page"))
        await peer.send(**PULL)
        message = await peer.receive()
        assert (message["error"]["code"], message["stream_id"]) == ("scope_required", "p")

    async def test_what_the_hub_has_not_is_an_error(self, house: House) -> None:
        peer = house.connect(ResponsesProtocol)
        await peer.send(**PULL | {"model": "hf:org/none"})
        assert (await peer.receive())["error"]["code"] == "model_not_found"


class TestExtension:
    async def test_a_pull_is_told_like_a_loading_and_the_model_can_be_deleted(
        self, house: House
    ) -> None:
        peer = house.connect(ExtensionProtocol)
        await peer.send(action="pull_model", requestId=1, model="org/repo", variant="Q8_0")
        *events, reply = await peer.until(action="pull_model")
        told = [event["payload"] for event in events]
        assert {event["type"] for event in events} == {"modelWorkerLoadingProgress"}
        assert [told[0]["status"], told[-1]["status"]] == ["initiate", "done"]
        assert all((each["file"], each["requestId"]) == ("m-Q8_0.gguf", 1) for each in told)
        assert reply["payload"] == {"modelPath": "m-Q8_0", "backend": "scripted"}
        await peer.send(action="delete_model", requestId=2, model="m-Q8_0")
        assert (await peer.receive())["status"] == "success"
        assert house.models() == ["given"]
        assert [path async for path in anyio.Path(house.folder).iterdir()] == []

    async def test_a_pull_is_stopped_by_its_id(self, house: House, hub: LocalHub) -> None:
        hub.hold_after = 1
        peer = house.connect(ExtensionProtocol)
        await peer.send(action="pull_model", requestId=1, model="org/repo")
        await peer.until(type="modelWorkerLoadingProgress")
        await peer.send(action="stop_generation", requestId=1)
        reply = (await peer.until(action="pull_model"))[-1]
        assert (reply["status"], reply["payload"]) == ("success", {"cancelled": True})

    async def test_a_model_that_is_kept_elsewhere_is_not_deleted(self, house: House) -> None:
        peer = house.connect(ExtensionProtocol)
        await peer.send(action="delete_model", requestId=1, model="given")
        assert (await peer.receive())["code"] == "invalid_parameter"
        assert house.models() == ["given"]


class TestHttp:
    async def test_a_pull_answers_with_the_model_once_it_is_there(self, house: House) -> None:
        answer = await house.client().post("/v1/models/pull", {"model": "hf:org/repo"})
        assert (answer.status, answer.json["id"], answer.json["state"]) == (
            200,
            "m-Q8_0",
            "unloaded",
        )
        assert house.models() == ["given", "m-Q8_0"]

    async def test_a_streamed_pull_tells_its_progress(self, house: House) -> None:
        body = {"model": "hf:org/repo", "stream": True}
        answer = await house.client().post("/v1/models/pull", body)
        *progress, end = answer.data
        assert progress[-1]["done"] == 400
        assert (end["type"], end["model"]["id"]) == ("tabagent.model.pull", "m-Q8_0")

    async def test_a_streamed_pull_that_fails_ends_with_the_error(self, house: House) -> None:
        body = {"model": "hf:org/none", "stream": True}
        (end,) = (await house.client().post("/v1/models/pull", body)).data
        assert (end["type"], end["error"]["code"]) == ("error", "model_not_found")

    async def test_a_client_that_leaves_ends_the_pull(self, house: House, hub: LocalHub) -> None:
        hub.hold_after = 1
        body = {"model": "hf:org/repo", "stream": True}
        async with house.client().stream("POST", "/v1/models/pull", body) as answer:
            await answer.until("tabagent.model.pull.progress")
            answer.leave()
        hub.hold_after = None
        answer = await house.client().post("/v1/models/pull", {"model": "hf:org/repo"})
        assert answer.status == 200

    async def test_a_model_is_deleted_by_its_route(self, house: House) -> None:
        client = house.client()
        await client.post("/v1/models/pull", {"model": "hf:org/repo"})
        answer = await client.request("DELETE", "/v1/models/m-Q8_0")
        assert answer.json == {"id": "m-Q8_0", "object": "model", "deleted": True}
        answer = await client.request("DELETE", "/v1/models/m-Q8_0")
        assert answer.error == (404, "model_not_found", "model")
