"""The stock OpenAI SDK's Realtime client against a real server with a real model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.resources.realtime.realtime import RealtimeConnection

GREEDY: Any = {"type": "realtime", "output_modalities": ["text"], "tabagent": {"temperature": 0}}
ENDLESS: Any = {"tabagent": {"ignore_eos": True}}


def user(text: str) -> Any:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@contextmanager
def session(client: OpenAI, model: str) -> Iterator[RealtimeConnection]:
    """A connection whose session is greedy and whose conversation has a question."""
    with client.realtime.connect(model=model) as connection:
        created: Any = connection.recv()
        assert created.type == "session.created"
        assert created.session.model == model
        connection.session.update(session=GREEDY)
        assert connection.recv().type == "session.updated"
        connection.conversation.item.create(item=user("Say it."))
        until(connection, "conversation.item.done")
        yield connection


def until(connection: RealtimeConnection, kind: str) -> list[Any]:
    """All events up to one of that type."""
    events: list[Any] = []
    while not events or events[-1].type != kind:
        events.append(connection.recv())
        assert events[-1].type != "error", events[-1]
    return events


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[OpenAI]:
    address = server.replace("http", "ws", 1)
    with OpenAI(
        base_url=f"{server}/v1", websocket_base_url=f"{address}/v1", api_key="any", max_retries=0
    ) as client:
        yield client


def test_a_conversation(client: OpenAI) -> None:
    with session(client, "chain") as connection:
        for _ in range(2):
            connection.response.create()
            events = until(connection, "response.done")
            assert events[0].type == "response.created"
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            response = events[-1].response
            assert "".join(deltas) == response.output[0].content[0].text == KNOWN_ANSWER
            assert response.status == "completed"
            assert response.usage.total_tokens == (
                response.usage.input_tokens + response.usage.output_tokens
            )
            connection.conversation.item.create(item=user("Again."))
            until(connection, "conversation.item.done")


def test_a_cancelled_response_leaves_the_session_usable(client: OpenAI) -> None:
    with session(client, "long") as connection:
        connection.response.create(response=ENDLESS)
        until(connection, "response.output_text.delta")
        connection.response.cancel()
        done = until(connection, "response.done")[-1].response
        assert done.status == "cancelled"
        assert done.status_details.reason == "client_cancelled"
        connection.response.create(response={"max_output_tokens": 3})
        done = until(connection, "response.done")[-1].response
        assert done.status_details.reason == "max_output_tokens"


def test_out_of_band_responses_run_beside_the_conversation(client: OpenAI) -> None:
    with session(client, "long") as connection:
        connection.response.create(response=ENDLESS)
        connection.response.create(
            response={
                "conversation": "none",
                "metadata": {"topic": "aside"},
                "input": [user("Aside.")],
                "max_output_tokens": 2,
            }
        )
        aside = until(connection, "response.done")[-1].response
        assert aside.metadata == {"topic": "aside"}
        assert aside.conversation_id is None
        connection.response.cancel()
        done = until(connection, "response.done")[-1].response
        assert (done.metadata, done.status) == (None, "cancelled")


def test_items_are_retrieved_and_deleted(client: OpenAI) -> None:
    with session(client, "chain") as connection:
        connection.conversation.item.create(item=user("More.") | {"id": "more"})
        until(connection, "conversation.item.done")
        connection.conversation.item.retrieve(item_id="more")
        retrieved: Any = connection.recv()
        assert retrieved.type == "conversation.item.retrieved"
        assert retrieved.item.content[0].text == "More."
        connection.conversation.item.delete(item_id="more")
        assert connection.recv().type == "conversation.item.deleted"


def test_errors_name_the_event_and_the_session_lives_on(client: OpenAI) -> None:
    with session(client, "chain") as connection:
        connection.input_audio_buffer.append(audio="AAAA", event_id="sound")
        audio: Any = connection.recv()
        assert (audio.type, audio.error.code, audio.error.event_id) == (
            "error",
            "not_supported",
            "sound",
        )
        wrong: Any = {"tabagent": {"model": "nope"}}
        connection.response.create(event_id="wrong", response=wrong)
        unknown: Any = connection.recv()
        assert (unknown.error.code, unknown.error.event_id) == ("model_not_found", "wrong")
        connection.response.create()
        done = until(connection, "response.done")[-1].response
        assert done.output[0].content[0].text == KNOWN_ANSWER


@pytest.mark.anyio
async def test_the_asynchronous_client(server: str) -> None:
    address = server.replace("http", "ws", 1)
    async with (
        AsyncOpenAI(websocket_base_url=f"{address}/v1", api_key="any") as client,
        client.realtime.connect(model="chain") as connection,
    ):
        await connection.session.update(session=GREEDY)
        await connection.conversation.item.create(item=user("Say it."))
        await connection.response.create()
        async for event in connection:
            if event.type == "response.output_text.done":
                assert event.text == KNOWN_ANSWER
            if event.type == "response.done":
                break
