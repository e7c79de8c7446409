"""The event laws hold whatever a backend says and whatever a consumer does, in any order."""

from __future__ import annotations

from enum import Enum, auto

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import BackendError, RequestError
from tabagent.core.events import (
    TERMINAL_EVENTS,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
)
from tabagent.core.requests import GenerateRequest
from tabagent.core.stream import EventStream
from tabagent.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


class Step(Enum):
    """What may happen next to a request."""

    PRODUCE = auto()
    THINK = auto()
    READ = auto()
    CANCEL = auto()
    FINISH = auto()
    FAIL = auto()


CREDIT = 3


class Consumer:
    """Reads one stream and keeps what it read."""

    def __init__(self) -> None:
        self.backend = ScriptedBackend()
        request = GenerateRequest(request_id="r", prompt="x")
        self.stream = EventStream(request, CREDIT, self._admit, lambda stream: None)
        self.produced = ""
        self.read: list[Event] = []

    def _admit(self, stream: EventStream) -> None:
        stream.submit(self.backend, "model")

    async def take(self, step: Step) -> None:
        if step is Step.READ:
            with anyio.move_on_after(0):
                self.read += await anext(self.stream, [])
        elif step is Step.CANCEL:
            self.stream.cancel()
        elif "r" in self.backend.running:
            self._say(step)

    def _say(self, step: Step) -> None:
        number = len(self.produced)
        if step is Step.PRODUCE and self._outstanding() < CREDIT:
            self.produced += "x"
            self.backend.emit("r", TextDelta("r", "x", (number,)))
        elif step is Step.THINK:
            self.backend.emit("r", ReasoningDelta("r", "hm"))
        elif step is Step.FINISH:
            self.backend.emit("r", Finished("r", FinishReason.STOP))
        elif step is Step.FAIL:
            self.backend.emit("r", Failed("r", BackendError("decode_failed", "no")))

    def _outstanding(self) -> int:
        return len(self.produced) - sum(tokens for _, tokens in self.backend.granted)

    def said(self) -> list[TextDelta]:
        return [event for event in self.read if isinstance(event, TextDelta)]


@given(st.lists(st.sampled_from(Step), max_size=30))
async def test_one_terminal_event_ends_the_whole_text(steps: list[Step]) -> None:
    consumer = Consumer()
    async with consumer.stream as stream:
        for step in steps:
            await consumer.take(step)
        stream.cancel()
        consumer.read += [event async for events in stream for event in events]
    assert [isinstance(event, TERMINAL_EVENTS) for event in consumer.read[:-1]].count(True) == 0
    assert isinstance(consumer.read[-1], TERMINAL_EVENTS)
    assert "".join(delta.text for delta in consumer.said()) == consumer.produced


@given(st.lists(st.sampled_from([Step.PRODUCE, Step.READ]), max_size=40))
async def test_credit_comes_back_for_what_was_read_and_never_runs_dry(steps: list[Step]) -> None:
    consumer = Consumer()
    async with consumer.stream:
        for step in steps:
            await consumer.take(step)
        read = sum(len(delta.tokens) for delta in consumer.said())
        assert sum(tokens for _, tokens in consumer.backend.granted) <= read
        await consumer.take(Step.READ)
        await consumer.take(Step.READ)  # whoever has read all and asks on gets more
        produced = len(consumer.produced)
        await consumer.take(Step.PRODUCE)
        assert len(consumer.produced) == produced + 1


async def test_a_refused_stream_has_one_item() -> None:
    error = RequestError("overloaded", "later")
    request = GenerateRequest(request_id="r", prompt="x")
    stream = EventStream(request, CREDIT, lambda s: s.refuse(error), lambda s: None)
    async with stream:
        assert stream.refusal is error
        assert [events async for events in stream] == [[Failed("r", error)]]
