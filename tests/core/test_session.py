"""One connection: answers stream, cancels arrive, ends are clean, whatever the peer does."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tabagent.core.backend import ModelSpec
from tabagent.core.engine import Engine, EngineLimits
from tabagent.core.errors import BackendError, TransportClosed
from tabagent.core.events import Finished, FinishReason, TextDelta
from tabagent.core.recorder import Recorder
from tabagent.core.requests import LOCAL, Principal
from tabagent.core.session import MAX_UNANSWERED, MESSAGES_PER_TURN, Session
from tabagent.core.transport import Transport
from tabagent.testing import LoopbackTransport, ScriptedBackend, loopback_pair

from tests.core.line_protocol import LineProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

VISITOR = Principal("https://page.example", frozenset({"infer"}))


class Peer:
    """The far end of a session's connection, and a look at the session's own ids."""

    def __init__(self, transport: LoopbackTransport, protocol: LineProtocol) -> None:
        self.transport = transport
        self.prefix = protocol.prefix

    async def send(self, **body: Any) -> None:
        await self.transport.send(json.dumps(body))

    async def receive(self) -> dict[str, Any]:
        with anyio.fail_after(20):
            message: dict[str, Any] = json.loads(await self.transport.receive())
        return message

    async def until(self, *expected: dict[str, Any]) -> None:
        """Receive until all of `expected` have come, in any order and with others between."""
        missing = list(expected)
        while missing:
            message = await self.receive()
            if message in missing:
                missing.remove(message)

    async def start(self, *names: str) -> None:
        """Start generating and wait until the engine has taken it."""
        for name in names:
            await self.send(do="generate", id=name)
            assert await self.receive() == {"id": name, "accepted": "model"}

    async def is_closed(self) -> bool:
        with pytest.raises(TransportClosed):
            await self.receive()
        return True


class House:
    """An engine with one scripted model, and connections to it."""

    def __init__(
        self, backend: ScriptedBackend, engine: Engine, recorder: Recorder, tasks: Any
    ) -> None:
        self.backend = backend
        self.engine = engine
        self.recorder = recorder
        self._tasks = tasks

    def connect(self, principal: Principal = LOCAL, capacity: int = 16, **opening: Any) -> Peer:
        near, far = loopback_pair(capacity)
        near.opening = opening
        protocol = LineProtocol(principal)
        self._tasks.start_soon(Session(near, protocol, self.engine, self.recorder).run)
        return Peer(far, protocol)

    def say(self, peer: Peer, name: str, *texts: str, end: bool = False) -> None:
        """Let the model say something in answer to a request."""
        request_id = peer.prefix + name
        for number, text in enumerate(texts):
            self.backend.emit(request_id, TextDelta(request_id, text, (number,)))
        if end:
            self.backend.emit(request_id, Finished(request_id, FinishReason.STOP))


@asynccontextmanager
async def open_house(**limits: Any) -> AsyncIterator[House]:
    backend = ScriptedBackend()
    models = [ModelSpec("model", "scripted:1", "scripted")]
    async with (
        Engine({"scripted": backend}, models, limits=EngineLimits(**limits)) as engine,
        Recorder(engine) as recorder,
        anyio.create_task_group() as tasks,
    ):
        await engine.load("model")
        yield House(backend, engine, recorder, tasks)
        tasks.cancel_scope.cancel()


async def test_a_protocol_may_speak_first_and_hears_what_its_peer_came_for() -> None:
    async with open_house() as house:
        peer = house.connect(model="m")
        assert await peer.receive() == {"opening": {"model": "m"}}


class TestAnswers:
    async def test_an_answer_is_accepted_streams_and_ends(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.start("a")
            house.say(peer, "a", "Hello")
            assert await peer.receive() == {"id": "a", "text": "Hello"}
            house.say(peer, "a", " there", end=True)
            assert await peer.receive() == {"id": "a", "text": " there"}
            assert await peer.receive() == {"id": "a", "finished": "stop"}

    async def test_answers_of_several_requests_interleave(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.start("a", "b")
            house.say(peer, "b", "B")
            assert await peer.receive() == {"id": "b", "text": "B"}
            house.say(peer, "a", "A")
            assert await peer.receive() == {"id": "a", "text": "A"}

    async def test_a_refused_request_fails_without_being_accepted(self) -> None:
        async with open_house() as house:
            await house.engine.unload("model")
            peer = house.connect()
            await peer.send(do="generate", id="a")
            assert await peer.receive() == {"id": "a", "failed": "model_not_found"}

    async def test_a_bad_message_is_answered_and_harms_nothing(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.start("a")
            await peer.transport.send("{")
            await peer.transport.send_bytes(b"\xff")
            await peer.send(do="dance", id="b")
            errors = [await peer.receive() for _ in range(3)]
            assert [list(error) for error in errors] == [["error"]] * 3
            house.say(peer, "a", "still here")
            assert await peer.receive() == {"id": "a", "text": "still here"}

    async def test_an_id_may_be_used_again_after_its_end(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            for _ in range(2):
                await peer.start("a")
                house.say(peer, "a", end=True)
                assert await peer.receive() == {"id": "a", "finished": "stop"}

    async def test_the_end_of_one_request_may_start_the_next(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.start("a")
            await peer.send(do="generate", id="b", after="a")
            house.say(peer, "a", end=True)
            assert await peer.receive() == {"id": "a", "finished": "stop"}
            assert await peer.receive() == {"id": "b", "accepted": "model"}


class TestCancelling:
    async def test_a_cancel_ends_its_request_only(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.start("a", "b")
            await peer.send(do="cancel", id="a")
            assert await peer.receive() == {"id": "a", "finished": "cancelled"}
            house.say(peer, "b", "on")
            assert await peer.receive() == {"id": "b", "text": "on"}

    async def test_a_cancel_right_behind_its_request_finds_it(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.send(do="generate", id="a")
            await peer.send(do="cancel", id="a")
            assert await peer.receive() == {"id": "a", "accepted": ""}
            assert await peer.receive() == {"id": "a", "finished": "cancelled"}

    async def test_requests_of_other_connections_cannot_be_cancelled(self) -> None:
        async with open_house() as house:
            peer, stranger = house.connect(), house.connect()
            await peer.start("a")
            await stranger.send(do="cancel", id=f"{peer.prefix}a")
            await stranger.send(do="list", id="l")
            await stranger.receive()
            assert house.backend.cancelled == []

    async def test_a_cancel_is_seen_while_the_peer_takes_nothing(self) -> None:
        async with open_house() as house:
            peer = house.connect(capacity=1)
            await peer.start("a")
            for _ in range(5):
                house.say(peer, "a", "text")
                await anyio.wait_all_tasks_blocked()
            await peer.send(do="cancel", id="a")
            await anyio.wait_all_tasks_blocked()
            assert house.backend.cancelled == [f"{peer.prefix}a"]


class TestModels:
    async def test_models_are_listed_for_everyone(self) -> None:
        async with open_house() as house:
            peer = house.connect(VISITOR)
            await peer.send(do="list", id="l")
            assert await peer.receive() == {"id": "l", "models": {"model": "ready"}}

    async def test_loading_and_unloading_need_the_scope_manage(self) -> None:
        async with open_house() as house:
            peer = house.connect(VISITOR)
            for action in ("load", "unload"):
                await peer.send(do=action, id="x", model="model")
                assert await peer.receive() == {"id": "x", "failed": "scope_required"}
            assert house.backend.unloads == []

    async def test_a_model_is_unloaded_and_loaded(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.send(do="unload", id="u", model="model")
            answer = {"id": "u", "models": {"model": "unloaded"}}
            await peer.until(answer, {"model": "model", "state": "unloaded"})
            await peer.send(do="load", id="l", model="model")
            answer = {"id": "l", "models": {"model": "ready"}}
            await peer.until(answer, {"model": "model", "state": "ready"})

    async def test_a_failed_load_is_answered_with_its_error(self) -> None:
        async with open_house() as house:
            house.engine.register(ModelSpec("bad", "scripted:2", "scripted"))
            house.backend.load_error = BackendError("gguf_invalid", "no GGUF")
            peer = house.connect()
            await peer.send(do="load", id="l", model="bad")
            answer = {"id": "l", "failed": "gguf_invalid"}
            await peer.until(answer, {"model": "bad", "state": "failed"})

    async def test_other_connections_go_on_while_a_model_loads(self) -> None:
        async with open_house() as house:
            house.engine.register(ModelSpec("slow", "scripted:2", "scripted"))
            house.backend.may_load = anyio.Event()
            peer, other = house.connect(), house.connect()
            await peer.send(do="load", id="l", model="slow")
            await other.until({"model": "slow", "state": "loading"})
            for connection in (peer, other):
                await connection.send(do="generate", id="a")
                await connection.until({"id": "a", "accepted": "model"})


class TestSlowPeers:
    async def test_a_peer_that_takes_nothing_gets_fewer_and_larger_messages(self) -> None:
        async with open_house() as house:
            peer = house.connect(capacity=1)
            await peer.start("a")
            texts = [f"{number} " for number in range(50)]
            for text in texts:
                house.say(peer, "a", text)
                await anyio.wait_all_tasks_blocked()
            house.say(peer, "a", end=True)
            received = []
            while "finished" not in (message := await peer.receive()):
                received.append(message["text"])
            assert "".join(received) == "".join(texts)
            assert len(received) == 3  # one in the pipe, one being sent, one with all the rest

    async def test_credit_comes_back_when_the_peer_has_taken_the_text(self) -> None:
        async with open_house(credit=1) as house:
            peer = house.connect(capacity=1)
            await peer.start("a")
            for _ in range(3):
                house.say(peer, "a", "text")
                await anyio.wait_all_tasks_blocked()
            assert len(house.backend.granted) == 1
            await peer.receive()
            await anyio.wait_all_tasks_blocked()
            assert len(house.backend.granted) == 2

    async def test_it_slows_nobody_else(self) -> None:
        async with open_house() as house:
            slow, quick = house.connect(capacity=1), house.connect()
            await slow.start("a")
            await quick.start("a")
            for _ in range(5):
                house.say(slow, "a", "text")
                await anyio.wait_all_tasks_blocked()
            house.say(quick, "a", "text")
            assert await quick.receive() == {"id": "a", "text": "text"}

    async def test_messages_are_read_ahead_only_so_far_when_no_answer_is_taken(self) -> None:
        async with open_house() as house:
            peer = house.connect(capacity=1)
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while sent < 3 * MAX_UNANSWERED:
                    await peer.transport.send("{")
                    sent += 1

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(flood)
                await anyio.wait_all_tasks_blocked()
                assert MAX_UNANSWERED <= sent < 2 * MAX_UNANSWERED
                errors = [await peer.receive() for _ in range(3 * MAX_UNANSWERED)]
            assert all("error" in error for error in errors)

    async def test_a_burst_of_messages_lets_others_have_their_turn(self) -> None:
        class Eager(Transport):
            """Takes whatever is sent without ever yielding."""

            def __init__(self) -> None:
                self.sent = 0

            async def receive(self) -> str:
                self.receive = anyio.sleep_forever  # type: ignore[method-assign, assignment]
                return "{"

            async def send(self, message: str) -> None:
                self.sent += 1

            async def aclose(self) -> None:
                return

        class Bursting(LineProtocol):
            def messages_to_send(self) -> list[str]:
                return super().messages_to_send() * 10 * MESSAGES_PER_TURN

        turns = 0
        transport = Eager()
        async with open_house() as house, anyio.create_task_group() as tasks:
            tasks.start_soon(Session(transport, Bursting(LOCAL), house.engine, house.recorder).run)
            while transport.sent < 10 * MESSAGES_PER_TURN:
                await anyio.lowlevel.checkpoint()
                turns += 1
            tasks.cancel_scope.cancel()
        assert turns >= 10


class TestEnds:
    async def test_a_dropped_connection_cancels_its_requests(self) -> None:
        async with open_house() as house:
            peer, other = house.connect(), house.connect()
            await peer.start("a", "b")
            await other.start("a")
            await peer.transport.aclose()
            await anyio.wait_all_tasks_blocked()
            assert sorted(house.backend.cancelled) == [f"{peer.prefix}a", f"{peer.prefix}b"]
            assert list(house.backend.running) == [f"{other.prefix}a"]

    async def test_a_connection_dropped_while_it_takes_nothing_cancels_its_requests(self) -> None:
        async with open_house() as house:
            peer = house.connect(capacity=1)
            await peer.start("a")
            for _ in range(3):
                house.say(peer, "a", "text")
                await anyio.wait_all_tasks_blocked()
            await peer.transport.aclose()
            await anyio.wait_all_tasks_blocked()
            assert house.backend.running == {}

    async def test_a_request_that_waits_for_its_model_goes_with_its_connection(self) -> None:
        async with open_house() as house:
            await house.engine.unload("model")
            house.backend.may_load = anyio.Event()
            peer = house.connect()
            await peer.send(do="load", id="l", model="model")
            await peer.until({"model": "model", "state": "loading"})
            await peer.send(do="generate", id="a")
            await peer.until({"id": "a", "accepted": "model"})
            await peer.transport.aclose()
            await anyio.wait_all_tasks_blocked()
            house.backend.may_load.set()
            await house.engine.load("model")
            assert house.backend.submitted == []

    async def test_the_end_of_the_engine_sends_last_events_and_closes(self) -> None:
        async with open_house() as house:
            peer = house.connect()
            await peer.start("a")
            await house.engine.aclose()
            assert await peer.receive() == {"id": "a", "finished": "cancelled"}
            assert await peer.is_closed()

    async def test_cancelling_the_session_closes_the_connection(self) -> None:
        async with open_house() as house:
            near, far = loopback_pair()
            with anyio.move_on_after(0):
                await Session(near, LineProtocol(LOCAL), house.engine, house.recorder).run()
            with pytest.raises(TransportClosed):
                await far.receive()
