"""The Realtime dialect (text): a golden conversation, sessions, items, and any input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.requests import Message, SamplingParams
from tabagent.protocols.realtime import AUDIO_EVENTS
from tabagent.protocols.realtime_conversation import MAX_CHARS, MAX_ITEMS

from tests.protocols.peer import answered, finished, started, types
from tests.protocols.realtime_client import CREATE, OUT_OF_BAND, Client, delta, texts
from tests.protocols.test_chat import TIMINGS


@pytest.fixture
def client() -> Client:
    client = Client()
    client.add("hi", id="first")
    return client


def test_a_whole_conversation() -> None:
    client = Client(model="m", instructions="Be brief.")
    [created] = client.greeting
    assert created.pop("session").pop("id").startswith("sess_")
    heard = client.add("hi")
    question = heard[0]["item"]
    assert question == {
        "id": question["id"],
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "hi"}],
    }
    assert types(heard) == ["conversation.item.added", "conversation.item.done"]
    request = client.ask(CREATE | {"response": {"metadata": {"topic": "x"}}})
    assert request.model == "m"
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    heard = client.accept(request) + client.tell(*answered(request, "Hel", "", 'lo "é"'))
    for event in heard:
        assert event.pop("event_id").startswith("event_")
    item_id = heard[2]["item"]["id"]
    response = {
        "id": request.request_id,
        "object": "realtime.response",
        "status": "in_progress",
        "status_details": None,
        "output": [],
        "conversation_id": heard[0]["response"]["conversation_id"],
        "output_modalities": ["text"],
        "max_output_tokens": "inf",
        "usage": None,
        "metadata": {"topic": "x"},
        "tabagent": None,
    }
    item = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    done = item | {
        "status": "completed",
        "content": [{"type": "output_text", "text": 'Hello "é"'}],
    }
    of = {"response_id": request.request_id}
    at = of | {"item_id": item_id, "output_index": 0, "content_index": 0}
    after = {"previous_item_id": question["id"]}
    empty, full = {"type": "text", "text": ""}, {"type": "text", "text": 'Hello "é"'}
    no_media = {"audio_tokens": 0, "image_tokens": 0}
    usage = {
        "total_tokens": 7,
        "input_tokens": 5,
        "output_tokens": 2,
        "input_token_details": {
            "text_tokens": 5,
            **no_media,
            "cached_tokens": 3,
            "cached_tokens_details": {"text_tokens": 3, **no_media},
        },
        "output_token_details": {"text_tokens": 2, "audio_tokens": 0},
    }
    assert heard == [
        {"type": "response.created", "response": response},
        {
            "type": "rate_limits.updated",
            "rate_limits": [
                {"name": "requests", "limit": 64, "remaining": 63, "reset_seconds": 0.0}
            ],
            "tabagent": of | {"queue_position": 0},
        },
        {"type": "response.output_item.added", **of, "output_index": 0, "item": item},
        {"type": "conversation.item.added", **after, "item": item},
        {"type": "response.content_part.added", **at, "part": empty},
        {"type": "response.output_text.delta", **at, "delta": "Hel"},
        {"type": "response.output_text.delta", **at, "delta": 'lo "é"'},
        {"type": "response.output_text.done", **at, "text": 'Hello "é"'},
        {"type": "response.content_part.done", **at, "part": full},
        {"type": "conversation.item.done", **after, "item": done},
        {"type": "response.output_item.done", **of, "output_index": 0, "item": done},
        {
            "type": "response.done",
            "response": response
            | {
                "status": "completed",
                "output": [done],
                "usage": usage,
                "tabagent": {"model": "m", "seed": 7, "timings": TIMINGS},
            },
        },
    ]
    client.add("Again.")
    assert texts(client.create())[1:] == [
        ("user", "hi"),
        ("assistant", 'Hello "é"'),
        ("user", "Again."),
    ]


class TestSession:
    def test_a_session_begins_by_itself(self) -> None:
        [event] = Client().greeting
        assert event["type"] == "session.created"
        session = event["session"]
        assert session.pop("id")
        assert session == {
            "type": "realtime",
            "object": "realtime.session",
            "output_modalities": ["text"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "truncation": "auto",
            "tabagent": {},
        }

    def test_it_begins_as_its_caller_wanted(self) -> None:
        [event] = Client(model="m", instructions="Rhyme.", tabagent={"seed": 1}).greeting
        assert event["session"]["model"] == "m"
        assert event["session"]["instructions"] == "Rhyme."
        assert event["session"]["tabagent"] == {"seed": 1}

    def test_a_wrong_wish_is_told_and_the_session_begins_without_it(self) -> None:
        created, error = Client(instructions=7).greeting
        assert created["session"]["instructions"] == ""
        assert error["error"]["param"] == "session.instructions"

    def test_an_update_changes_what_it_has(self, client: Client) -> None:
        client.update(instructions="Be brief.", max_output_tokens=9, model="m")
        [updated] = client.update(tabagent={"temperature": 0, "seed": 3, "stop": "x"})
        assert updated["type"] == "session.updated"
        assert updated["session"]["instructions"] == "Be brief."
        assert updated["session"]["tabagent"] == {"temperature": 0.0, "seed": 3, "stop": "x"}
        request = client.create()
        assert texts(request) == [("system", "Be brief."), ("user", "hi")]
        assert (request.model, request.max_tokens, request.stop) == ("m", 9, ("x",))
        assert request.sampling == SamplingParams(temperature=0.0, seed=3)

    def test_null_returns_to_the_default(self, client: Client) -> None:
        client.update(instructions="Be brief.", max_output_tokens=9, model="m")
        client.update(tabagent={"seed": 1}, truncation="disabled")
        [updated] = client.update(
            instructions=None, max_output_tokens=None, model=None, tabagent=None, truncation=None
        )
        fresh = Client().greeting[0]["session"]
        assert updated["session"] == fresh | {"id": updated["session"]["id"]}

    def test_what_stock_voice_clients_send_is_taken(self, client: Client) -> None:
        audio = {
            "input": {"transcription": {"model": "t"}, "turn_detection": {"type": "semantic_vad"}},
            "output": {"voice": "ash"},
        }
        [first] = client.update(audio=audio, output_modalities=["audio"], tools=[])
        [second] = client.update(tracing=None)
        assert first["session"]["output_modalities"] == ["text"]
        assert types([first, second]) == ["session.updated"] * 2

    def test_a_refused_update_changes_nothing(self, client: Client) -> None:
        update = {"type": "realtime", "instructions": "x", "tabagent": {"temperature": -1}}
        error = client.error({"type": "session.update", "session": update})
        assert error["param"] == "session.tabagent.temperature"
        assert texts(client.create()) == [("user", "hi")]

    def test_only_a_session_without_truncation_fails_for_length(self, client: Client) -> None:
        assert client.create(**OUT_OF_BAND).truncate
        client.update(truncation="disabled")
        assert not client.create(**OUT_OF_BAND).truncate


class TestItems:
    def test_items_are_put_where_they_are_wanted(self, client: Client) -> None:
        assert client.add("last", "assistant")[0]["previous_item_id"] == "first"
        assert client.add("start", "system", previous_item_id="root")[0]["previous_item_id"] is None
        assert client.add("between", previous_item_id="first")[1]["previous_item_id"] == "first"
        assert texts(client.create()) == [
            ("system", "start"),
            ("user", "hi"),
            ("user", "between"),
            ("assistant", "last"),
        ]

    def test_an_item_is_retrieved(self, client: Client) -> None:
        item = client.add("x", id="mine")[1]["item"]
        [event] = client.say({"type": "conversation.item.retrieve", "item_id": "mine"})
        assert event["type"] == "conversation.item.retrieved"
        assert event["item"] == item

    def test_a_deleted_item_is_forgotten(self, client: Client) -> None:
        client.add("other")
        [event] = client.say({"type": "conversation.item.delete", "item_id": "first"})
        assert (event["type"], event["item_id"]) == ("conversation.item.deleted", "first")
        assert texts(client.create()) == [("user", "other")]
        error = client.error({"type": "conversation.item.retrieve", "item_id": "first"})
        assert (error["code"], error["param"]) == ("invalid_parameter", "item_id")

    def test_an_answer_may_be_deleted_while_it_is_written(self, client: Client) -> None:
        request = client.create()
        item_id = client.tell(started(request), delta(request, "a"))[0]["item"]["id"]
        client.say({"type": "conversation.item.delete", "item_id": item_id})
        assert client.tell(finished(request))[-1]["response"]["status"] == "completed"
        assert texts(client.create()) == [("user", "hi")]

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"id": "first"}, "item.id"),
            ({"id": ""}, "item.id"),
            ({"previous_item_id": "nobody"}, "previous_item_id"),
            ({"role": "tool"}, "item.role"),
            ({"content": None}, "item.content"),
            ({"content": [{"type": "input_smell"}]}, "item.content[0].type"),
            ({"content": [{"type": "input_text"}]}, "item.content[0]"),
            ({"type": "poem"}, "item.type"),
        ],
    )
    def test_a_wrong_item_is_refused(self, client: Client, fields: Any, param: str) -> None:
        [event] = client.add("x", **fields)
        assert event["error"]["code"] == "invalid_parameter"
        assert event["error"]["param"] == param
        assert texts(client.create()) == [("user", "hi")]

    def test_a_conversation_is_bounded_in_items(self, client: Client) -> None:
        for _ in range(MAX_ITEMS - 1):
            client.add("x")
        [event] = client.add("one more")
        assert event["error"]["code"] == "overloaded"
        assert client.error(CREATE)["code"] == "overloaded"
        client.create(**OUT_OF_BAND)
        client.say({"type": "conversation.item.delete", "item_id": "first"})
        assert len(client.add("one more")) == 2

    def test_a_conversation_is_bounded_in_characters(self, client: Client) -> None:
        assert len(client.add("x" * (MAX_CHARS - 2), id="big")) == 2
        [event] = client.add("x")
        assert event["error"]["code"] == "overloaded"
        client.say({"type": "conversation.item.delete", "item_id": "big"})
        assert len(client.add("x")) == 2


class TestAnyInput:
    @pytest.mark.parametrize(
        ("message", "code", "param"),
        [
            ("{", "invalid_message", None),
            ("[]", "invalid_message", None),
            (b"\xff", "invalid_message", None),
            ({"event_id": "e"}, "invalid_message", "type"),
            ({"type": "response.dance"}, "unknown_type", "type"),
            ({"type": 7}, "invalid_parameter", "type"),
            ({"type": "response.cancel", "event_id": 7}, "invalid_parameter", "event_id"),
            ({"type": "response.cancel", "event_id": "x" * 513}, "invalid_parameter", "event_id"),
            ({"type": "session.update"}, "invalid_parameter", "session"),
            ({"type": "session.update", "session": {}}, "invalid_parameter", "session.type"),
            (CREATE | {"response": {"conversation": "x"}}, "invalid_parameter", None),
            (CREATE | {"response": {"max_output_tokens": 0}}, "invalid_parameter", None),
            (CREATE | {"response": {"tabagent": {"top_p": 2}}}, "invalid_parameter", None),
            (CREATE | {"response": {"tabagent": {"stop": ""}}}, "invalid_parameter", None),
            (CREATE | {"response": {"metadata": {"a": 1}}}, "invalid_parameter", None),
        ],
    )
    def test_what_is_wrong_is_told(
        self, client: Client, message: Any, code: str, param: str | None
    ) -> None:
        error = client.error(message)
        assert error["code"] == code
        if param is not None:
            assert error["param"] == param
        client.create()

    @pytest.mark.parametrize("kind", sorted(AUDIO_EVENTS))
    def test_audio_is_not_supported(self, client: Client, kind: str) -> None:
        error = client.error({"type": kind, "event_id": "a", "audio": "AAAA"})
        assert (error["code"], error["event_id"]) == ("not_supported", "a")
        assert "audio" in error["message"]

    def test_pings_are_answered(self, client: Client) -> None:
        assert types(client.say({"type": "tabagent.ping"})) == ["tabagent.pong"]
        assert client.say({"type": "tabagent.pong"}) == []

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_any_value_anywhere_gets_an_answer(self, value: Any) -> None:
        for kind, field in [
            ("session.update", "session"),
            ("conversation.item.create", "item"),
            ("conversation.item.create", "previous_item_id"),
            ("conversation.item.delete", "item_id"),
            ("response.create", "response"),
            ("response.cancel", "response_id"),
            ("response.create", "event_id"),
        ]:
            client = Client()
            client.add("hi")
            answers = client.say(json.dumps({"type": kind, field: value}))
            assert len(answers) + len(client.requests()) == 1
