"""The echo backend says what it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tabagent.core.backend import BackendConfig, ModelSpec
from tabagent.core.engine import Engine
from tabagent.core.events import Event, Queued, TextDelta
from tabagent.core.requests import GenerateRequest, Message
from tabagent.testing import Recording
from tabagent_backends.echo import EchoBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    backend = EchoBackend(BackendConfig())
    async with Engine({"echo": backend}, [ModelSpec("demo", "echo:", "echo")]) as engine:
        await engine.load("demo")
        yield engine


async def answer(engine: Engine, **fields: Any) -> str:
    async with engine.generate(GenerateRequest(request_id="r", **fields)) as stream:
        events: list[Event] = [event async for batch in stream for event in batch]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("prompt", ["Hello, world!", "  two  spaces ", "", "é€😀 line\nbreak\n"])
async def test_it_repeats_the_prompt(engine: Engine, prompt: str) -> None:
    assert await answer(engine, prompt=prompt) == prompt


async def test_it_repeats_the_last_thing_the_user_said(engine: Engine) -> None:
    turns = [("system", "Be brief."), ("user", "One."), ("assistant", "Two."), ("user", "Three.")]
    messages = tuple(Message(role, content) for role, content in turns)
    assert await answer(engine, messages=messages) == "Three."


async def test_it_has_nothing_to_say_when_the_user_said_nothing(engine: Engine) -> None:
    assert await answer(engine, messages=(Message("system", "Be brief."),)) == ""


async def test_it_spells_out_token_ids(engine: Engine) -> None:
    assert await answer(engine, prompt=(7, 8)) == " 7 8"


async def test_who_waits_is_told_how_many_are_ahead() -> None:
    backend = EchoBackend(BackendConfig(parallel=1))
    await backend.load(ModelSpec("demo", "echo:", "echo"), lambda progress: None)
    recordings = [Recording(name) for name in "abc"]
    for recording in recordings:
        request = GenerateRequest(request_id=recording.request_id, prompt="some words")
        backend.submit("demo", request, 0, recording)
    await backend.unload("demo")
    for recording in recordings:
        await recording.end()
    positions = [e.position for r in recordings for e in r.events if isinstance(e, Queued)]
    assert positions == [1, 2]
