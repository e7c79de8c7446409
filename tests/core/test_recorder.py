"""Resumable responses: an answer outlives its connection, and nothing of it is lost or doubled."""

from __future__ import annotations

import json
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from tabagent.core.backend import ModelSpec
from tabagent.core.engine import Engine, EngineLimits
from tabagent.core.errors import BackendError
from tabagent.core.events import Failed, Finished, FinishReason, PromptProgress, Started, TextDelta
from tabagent.core.recorder import Recorder, RecorderLimits
from tabagent.core.requests import LOCAL, Principal
from tabagent.core.session import Session
from tabagent.protocols.responses import ResponsesProtocol
from tabagent.testing import LoopbackTransport, ScriptedBackend, loopback_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PAGE = Principal("https://page.example")
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}

Message = dict[str, Any]


class Connection:
    """The far end of one connection."""

    def __init__(self, transport: LoopbackTransport) -> None:
        self.transport = transport

    async def send(self, kind: str, **fields: Any) -> None:
        await self.transport.send(json.dumps({"type": kind, **fields}))

    async def receive(self) -> Message:
        with anyio.fail_after(20):
            while True:
                message: Message = json.loads(await self.transport.receive())
                if message["type"] != "tabagent.model.state":
                    return message

    async def numbered(self, count: int) -> list[Message]:
        """Receive until there are `count` events with a number."""
        events: list[Message] = []
        while len(events) < count:
            event = await self.receive()
            if "sequence_number" in event:
                events.append(event)
        return events

    async def rest(self) -> list[Message]:
        """Receive to the end of a response."""
        events: list[Message] = []
        while not events or events[-1]["type"] not in TERMINAL:
            events += await self.numbered(1)
        return events

    async def create(self, **fields: Any) -> str:
        """Ask for a resumable response and return its id once it is accepted."""
        options = {"resumable": True}
        await self.send("response.create", input="hi", tabagent=options, **fields)
        [created] = await self.numbered(1)
        assert created["type"] == "response.created", created
        return str(created["response"]["id"])

    async def resume(self, response_id: str, after: int, **fields: Any) -> None:
        await self.send("response.resume", response_id=response_id, starting_after=after, **fields)

    async def refusal(self) -> str:
        message = await self.receive()
        assert message["type"] == "error", message
        return str(message["error"]["code"])

    async def drop(self) -> None:
        await self.transport.aclose()
        await anyio.wait_all_tasks_blocked()


class House(Struct):
    """A server with one scripted model."""

    backend: ScriptedBackend
    engine: Engine
    recorder: Recorder
    tasks: Any

    def connect(self, principal: Principal = LOCAL, capacity: int = 1000) -> Connection:
        near, far = loopback_pair(capacity)
        session = Session(near, ResponsesProtocol(principal), self.engine, self.recorder)
        self.tasks.start_soon(session.run)
        return Connection(far)

    def say(self, response_id: str, *texts: str) -> None:
        for number, text in enumerate(texts):
            self.backend.emit(response_id, TextDelta(response_id, text, (number,)))

    def start(self, response_id: str) -> None:
        self.backend.emit(response_id, Started(response_id, "model", 5))

    def finish(self, response_id: str) -> None:
        self.backend.emit(response_id, Finished(response_id, FinishReason.STOP))


@asynccontextmanager
async def open_house(*, credit: int = 256, **limits: Any) -> AsyncIterator[House]:
    backend = ScriptedBackend()
    models = [ModelSpec("model", "scripted:1", "scripted")]
    async with (
        Engine({"scripted": backend}, models, limits=EngineLimits(credit=credit)) as engine,
        Recorder(engine, limits=RecorderLimits(**limits)) as recorder,
        anyio.create_task_group() as tasks,
    ):
        await engine.load("model")
        yield House(backend, engine, recorder, tasks)
        tasks.cancel_scope.cancel()


def text_of(events: list[Message]) -> str:
    return "".join(
        event["delta"] for event in events if event["type"] == "response.output_text.delta"
    )


def numbers(events: list[Message]) -> list[int]:
    return [event["sequence_number"] for event in events]


class TestStreaming:
    async def test_a_resumable_response_streams_like_any_other(self) -> None:
        async with open_house() as house:
            one, other = house.connect(), house.connect()
            recorded = await one.create(stream_id="s")
            await other.send("response.create", input="hi", stream_id="s")
            [created] = await other.numbered(1)
            plain = created["response"]["id"]
            for response_id in (recorded, plain):
                house.start(response_id)
                house.say(response_id, "Hello", " there")
                house.finish(response_id)
            heard = [await connection.rest() for connection in (one, other)]
            kinds = [[(event["type"], event["stream_id"]) for event in events] for events in heard]
            assert kinds[0] == kinds[1]
            assert numbers(heard[0]) == numbers(heard[1])

    async def test_waiting_is_told_to_who_listens_and_not_replayed(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            house.start(response_id)
            house.backend.emit(response_id, PromptProgress(response_id, 2, 5))
            heard = [await one.receive() for _ in range(2)]
            assert [event["type"] for event in heard] == [
                "response.in_progress",
                "tabagent.prompt_progress",
            ]
            two = house.connect()
            await two.resume(response_id, 0)
            house.finish(response_id)
            events = [await two.receive() for _ in range(4)]
            assert numbers(events) == [1, 2, 3, 4]

    async def test_a_refused_request_has_no_response(self) -> None:
        async with open_house() as house:
            await house.engine.unload("model")
            one = house.connect()
            options = {"resumable": True}
            await one.send("response.create", input="hi", tabagent=options, stream_id="s")
            message = await one.receive()
            assert (message["type"], message["stream_id"]) == ("error", "s")
            assert message["error"]["code"] == "model_not_found"
            assert house.recorder.running == 0

    async def test_a_lane_goes_on_after_a_resumable_response(self) -> None:
        async with open_house() as house:
            one = house.connect()
            first = await one.create()
            await one.send("response.create", input="next")
            house.finish(first)
            await one.rest()
            [created] = await one.numbered(1)
            assert created["type"] == "response.created"
            assert created["response"]["id"] != first

    async def test_a_lane_goes_on_after_a_refused_one(self) -> None:
        async with open_house() as house:
            one = house.connect()
            await one.send("response.create", input="a", model="no", tabagent={"resumable": True})
            await one.send("response.create", input="b")
            assert await one.refusal() == "model_not_found"
            assert (await one.receive())["type"] == "response.created"

    async def test_a_failure_is_part_of_the_log(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            house.say(response_id, "so far")
            error = BackendError("decode_failed", "no")
            house.backend.emit(response_id, Failed(response_id, error))
            whole = await one.rest()
            await one.drop()
            two = house.connect()
            await two.resume(response_id, 0)
            assert await two.rest() == whole

    async def test_credit_comes_from_the_log(self) -> None:
        async with open_house(credit=4) as house:
            one = house.connect(capacity=1)
            response_id = await one.create()
            await one.drop()
            house.say(response_id, *"abcdefgh")
            await anyio.wait_all_tasks_blocked()
            assert sum(tokens for _, tokens in house.backend.granted) >= 5


class TestResuming:
    @given(
        texts=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8),
        cuts=st.lists(st.integers(0, 12), min_size=1, max_size=4),
        pauses=st.lists(st.booleans(), min_size=8, max_size=8),
    )
    @settings(max_examples=40, deadline=None)
    async def test_parts_of_any_cut_add_up_to_the_whole(
        self, texts: list[str], cuts: list[int], pauses: list[bool]
    ) -> None:
        async with open_house() as house:
            witness = house.connect()
            response_id = await witness.create()
            received = [-1]
            parts: list[Message] = []

            async def read_in_pieces() -> None:
                for cut in [*cuts, None]:
                    connection = house.connect()
                    await connection.resume(response_id, received[-1])
                    while cut is None or cut > 0:
                        [event] = await connection.numbered(1)
                        parts.append(event)
                        received.append(event["sequence_number"])
                        if event["type"] in TERMINAL:
                            break
                        cut = cut and cut - 1
                    await connection.transport.aclose()
                    if parts and parts[-1]["type"] in TERMINAL:
                        return

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_in_pieces)
                house.start(response_id)
                for text, pause in zip(texts, pauses, strict=False):
                    house.say(response_id, text)
                    if pause:
                        await anyio.wait_all_tasks_blocked()
                house.finish(response_id)
            whole = await witness.rest()
            assert numbers(parts) == list(range(len(whole) + 1))
            assert parts[1:] == whole
            assert text_of(parts) == "".join(texts)

    @pytest.mark.parametrize("cut", range(9))
    async def test_a_response_is_whole_wherever_its_connection_drops(self, cut: int) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create(stream_id="s")
            house.start(response_id)
            house.say(response_id, "Hello", " there")
            await anyio.wait_all_tasks_blocked()
            before = await one.numbered(cut) if cut < 5 else await one.numbered(4)
            await one.drop()
            house.say(response_id, " world")
            house.finish(response_id)
            two = house.connect()
            await two.resume(response_id, len(before), stream_id="s")
            after = await two.rest()
            whole = [*before, *after]
            assert numbers(whole) == list(range(1, len(whole) + 1))
            assert text_of(whole) == "Hello there world"
            assert {event["stream_id"] for event in whole} == {"s"}
            assert after[-1]["response"]["output"][0]["content"][0]["text"] == "Hello there world"

    async def test_what_was_sent_and_not_received_comes_again(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            house.say(response_id, "lost on the way")
            await anyio.wait_all_tasks_blocked()
            await one.drop()
            two = house.connect()
            await two.resume(response_id, 0)
            house.finish(response_id)
            assert text_of(await two.rest()) == "lost on the way"

    async def test_several_connections_may_follow(self) -> None:
        async with open_house() as house:
            one, two = house.connect(), house.connect()
            response_id = await one.create()
            await two.resume(response_id, 0)
            house.say(response_id, "both")
            house.finish(response_id)
            assert await one.rest() == await two.rest()

    async def test_a_slow_connection_slows_nobody(self) -> None:
        async with open_house() as house:
            slow, quick = house.connect(capacity=1), house.connect()
            response_id = await slow.create()
            await quick.resume(response_id, 0)
            house.say(response_id, *"abcdef")
            house.finish(response_id)
            whole = await quick.rest()
            assert await slow.rest() == whole

    async def test_an_ended_response_can_be_read_again(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            house.finish(response_id)
            whole = await one.rest()
            for _ in range(2):
                await one.resume(response_id, 0)
                assert await one.rest() == whole

    async def test_after_the_last_event_there_is_nothing_to_say(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            house.finish(response_id)
            last = (await one.rest())[-1]["sequence_number"]
            for _ in range(2):
                await one.resume(response_id, last)
                await anyio.wait_all_tasks_blocked()
            await one.send("tabagent.ping")
            assert (await one.receive())["type"] == "tabagent.pong"

    @pytest.mark.parametrize("number", [-2, 1, 10**9])
    async def test_a_number_that_never_was_is_refused(self, number: int) -> None:
        async with open_house() as house:
            one, two = house.connect(), house.connect()
            response_id = await one.create()
            await two.resume(response_id, number, stream_id="s")
            message = await two.receive()
            assert message["error"]["param"] == "starting_after"
            assert message["stream_id"] == "s"
            await two.resume(response_id, 0)
            house.finish(response_id)
            assert (await two.rest())[0]["sequence_number"] == 1

    async def test_a_response_is_read_once_per_connection(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            await one.resume(response_id, 0)
            assert await one.refusal() == "invalid_parameter"

    async def test_responses_of_others_do_not_exist(self) -> None:
        async with open_house() as house:
            one, stranger = house.connect(), house.connect(PAGE)
            response_id = await one.create()
            for known in (response_id, "resp_unknown"):
                await stranger.resume(known, 0)
                assert await stranger.refusal() == "response_not_found"
                await stranger.send("response.cancel", response_id=known)
                assert await stranger.refusal() == "response_not_found"
            assert response_id in house.backend.running


class TestCancelling:
    async def test_its_connection_cancels_it(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            await one.send("response.cancel", response_id=response_id)
            assert (await one.rest())[-1]["response"]["status"] == "cancelled"

    async def test_a_cancel_right_behind_it_finds_it(self) -> None:
        async with open_house() as house:
            one = house.connect()
            await one.send("response.create", input="a", tabagent={"resumable": True})
            await one.send("response.cancel")
            assert (await one.rest())[-1]["response"]["status"] == "cancelled"

    async def test_a_connection_that_resumed_it_cancels_it(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            await one.drop()
            two = house.connect()
            await two.resume(response_id, 0)
            await two.send("response.cancel", response_id=response_id)
            assert (await two.rest())[-1]["response"]["status"] == "cancelled"

    async def test_a_connection_that_has_not_resumed_it_cancels_it(self) -> None:
        async with open_house() as house:
            one, two = house.connect(), house.connect()
            response_id = await one.create()
            await two.send("response.cancel", response_id=response_id)
            assert (await one.rest())[-1]["response"]["status"] == "cancelled"
            await two.send("tabagent.ping")
            assert (await two.receive())["type"] == "tabagent.pong"


class TestLife:
    async def test_a_dropped_connection_leaves_it_running(self) -> None:
        async with open_house() as house:
            one = house.connect()
            response_id = await one.create()
            await one.send("response.create", input="plain", stream_id="other")
            await one.numbered(1)
            await one.drop()
            assert list(house.backend.running) == [response_id]

    async def test_nobody_comes_back_and_it_is_cancelled_and_expires(self) -> None:
        async with open_house(resume_ttl=0.01) as house:
            one = house.connect()
            response_id = await one.create()
            await one.drop()
            with anyio.fail_after(20):
                while response_id not in house.backend.cancelled:
                    await anyio.lowlevel.checkpoint()
            two = house.connect()
            await two.resume(response_id, 0)
            assert await two.refusal() == "resume_expired"
            await two.send("response.cancel", response_id=response_id)
            assert await two.refusal() == "resume_expired"
            stranger = house.connect(PAGE)
            await stranger.resume(response_id, 0)
            assert await stranger.refusal() == "response_not_found"

    async def test_whoever_follows_keeps_it_alive(self) -> None:
        async with open_house() as house:
            one, two = house.connect(), house.connect()
            response_id = await one.create()
            life = house.recorder.find(response_id, LOCAL).life
            await two.resume(response_id, 0)
            await two.drop()
            assert life.deadline == math.inf
            await one.drop()
            assert life.deadline < math.inf
            await house.connect().resume(response_id, 0)
            await anyio.wait_all_tasks_blocked()
            assert life.deadline == math.inf

    async def test_an_ended_one_expires(self) -> None:
        async with open_house(resume_ttl=0.01) as house:
            one = house.connect()
            response_id = await one.create()
            house.finish(response_id)
            await one.rest()
            with anyio.fail_after(20):
                while True:
                    await one.resume(response_id, 0)
                    message = await one.receive()
                    if message["type"] == "error":
                        break
                    await one.rest()
            assert message["error"]["code"] == "resume_expired"

    async def test_one_that_outgrows_its_log_fails(self) -> None:
        async with open_house(response_bytes=5_000) as house:
            one = house.connect()
            response_id = await one.create()
            house.say(response_id, "x" * 3_000)
            await anyio.wait_all_tasks_blocked()
            house.say(response_id, "y" * 3_000)
            last = (await one.rest())[-1]
            assert last["response"]["error"]["code"] == "overloaded"
            assert response_id in house.backend.cancelled

    async def test_ended_ones_make_room_for_the_new(self) -> None:
        async with open_house(principal_bytes=20_000) as house:
            one = house.connect()
            old = await one.create()
            house.say(old, "x" * 3_000)
            house.finish(old)
            await one.rest()
            new = await one.create()
            house.say(new, "y" * 10_000)
            await anyio.wait_all_tasks_blocked()
            await one.resume(old, 0)
            while (message := await one.receive())["type"] != "error":
                pass
            assert message["error"]["code"] == "resume_expired"
            assert new in house.backend.running

    async def test_the_end_of_the_engine_is_their_end(self) -> None:
        async with open_house() as house:
            one = house.connect()
            await one.create()
            await house.engine.aclose()
            assert (await one.rest())[-1]["response"]["status"] == "cancelled"
