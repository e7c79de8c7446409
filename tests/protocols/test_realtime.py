"""The Realtime dialect (text): a golden conversation, its rules one by one, and any input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import BackendError, RequestError
from tabagent.core.events import (
    DownloadProgress,
    Failed,
    FinishReason,
    ModelState,
    ModelStateChanged,
    PromptProgress,
    Queued,
    ReasoningDelta,
    TextDelta,
)
from tabagent.core.requests import (
    LOCAL,
    CancelRequest,
    GenerateRequest,
    Message,
    Principal,
    SamplingParams,
)
from tabagent.protocols.realtime import AUDIO_EVENTS, MAX_OPEN_RESPONSES, RealtimeProtocol
from tabagent.protocols.realtime_conversation import MAX_CHARS, MAX_ITEMS

from tests.protocols.peer import Peer, answered, finished, started, types
from tests.protocols.test_chat import TIMINGS

CREATE: dict[str, Any] = {"type": "response.create"}
OUT_OF_BAND: dict[str, Any] = {"conversation": "none"}
WHOLE = [
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


class Client(Peer):
    """A client of one session, whose greeting it has heard."""

    def __init__(self, principal: Principal = LOCAL, **opening: Any) -> None:
        super().__init__(RealtimeProtocol(principal))
        self.protocol.open(opening)
        self.greeting = self.hear()

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.say({"type": "session.update", "session": {"type": "realtime", **session}})

    def add(self, text: str, role: str = "user", **fields: Any) -> list[dict[str, Any]]:
        """Put a message into the conversation."""
        kind = "output_text" if role == "assistant" else "input_text"
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        item |= {name: fields.pop(name) for name in ("id", "content", "type") if name in fields}
        return self.say({"type": "conversation.item.create", "item": item, **fields})

    def create(self, **response: Any) -> GenerateRequest:
        """Ask for a response that the engine accepts."""
        request = self.ask(CREATE | {"response": response})
        assert types(self.accept(request)) == ["response.created", "rate_limits.updated"]
        return request

    def error(self, message: dict[str, Any] | str | bytes) -> dict[str, Any]:
        """Send an event that must be refused."""
        [answer] = self.say(message)
        assert answer["type"] == "error"
        assert self.requests() == []
        error: dict[str, Any] = answer["error"]
        return error


@pytest.fixture
def client() -> Client:
    client = Client()
    client.add("hi", id="first")
    return client


def delta(request: GenerateRequest, text: str, *tokens: int) -> TextDelta:
    return TextDelta(request.request_id, text, tokens)


def texts(request: GenerateRequest) -> list[tuple[str, str]]:
    assert request.messages is not None
    return [(message.role, message.content) for message in request.messages]


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


class TestResponses:
    def test_one_at_a_time_writes_to_the_conversation(self, client: Client) -> None:
        request = client.create()
        error = client.error(CREATE | {"event_id": "second"})
        assert (error["param"], error["event_id"]) == ("response.conversation", "second")
        client.tell(finished(request))
        client.create()

    def test_others_run_beside_it_and_leave_no_trace(self, client: Client) -> None:
        client.create()
        request = client.ask(CREATE | {"response": OUT_OF_BAND | {"metadata": {"n": "1"}}})
        created, _ = client.accept(request)
        assert created["response"]["conversation_id"] is None
        assert created["response"]["metadata"] == {"n": "1"}
        heard = client.tell(*answered(request, "aside"))
        assert types(heard) == [kind for kind in WHOLE if not kind.startswith("conversation")]
        assert texts(client.create(**OUT_OF_BAND)) == [("user", "hi")]

    def test_an_input_takes_the_place_of_the_conversation(self, client: Client) -> None:
        other = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "b"}],
        }
        reference = {"type": "item_reference", "id": "first"}
        request = client.create(input=[other, reference], instructions="Sort.")
        assert texts(request) == [("system", "Sort."), ("user", "b"), ("user", "hi")]
        client.tell(*answered(request, "hi b"))
        assert texts(client.create()) == [("user", "hi"), ("assistant", "hi b")]

    def test_its_settings_go_before_the_session_s(self, client: Client) -> None:
        client.update(
            instructions="Long.", max_output_tokens=99, tabagent={"seed": 1, "temperature": 0}
        )
        request = client.create(
            instructions="Short.", max_output_tokens=3, tabagent={"seed": 2, "model": "other"}
        )
        assert texts(request)[0] == ("system", "Short.")
        assert request.max_tokens == 3
        assert request.model == "other"
        assert request.sampling == SamplingParams(seed=2, temperature=0.0)
        client.tell(finished(request))
        assert client.create(max_output_tokens="inf", instructions="").max_tokens is None

    def test_the_end_by_length_is_incomplete(self, client: Client) -> None:
        request = client.create()
        client.tell(started(request), delta(request, "Hel"))
        heard = client.tell(finished(request, FinishReason.LENGTH))
        response = heard[-1]["response"]
        assert response["status"] == "incomplete"
        assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
        assert response["output"][0]["status"] == "incomplete"

    def test_an_empty_answer_is_an_item_too(self, client: Client) -> None:
        heard = client.tell(finished(client.create()))
        assert types(heard) == [kind for kind in WHOLE if not kind.endswith("delta")]
        assert heard[-1]["response"]["output"][0]["content"][0]["text"] == ""

    def test_a_refused_request_is_an_error_that_names_its_event(self, client: Client) -> None:
        request = client.ask(CREATE | {"event_id": "mine"})
        error = RequestError("model_not_found", "none is loaded", param="model")
        [event] = client.tell(Failed(request.request_id, error))
        assert event["type"] == "error"
        assert event["error"]["code"] == "model_not_found"
        assert event["error"]["event_id"] == "mine"
        client.create()

    def test_a_failure_ends_a_response(self, client: Client) -> None:
        request = client.create()
        client.tell(started(request), delta(request, "Hel"))
        heard = client.tell(Failed(request.request_id, BackendError("decode_failed", "it broke")))
        assert types(heard)[-1] == "response.done"
        assert heard[-1]["response"]["status"] == "failed"
        assert heard[-1]["response"]["status_details"] == {
            "type": "failed",
            "error": {"type": "server_error", "code": "decode_failed", "message": "it broke"},
        }
        client.create()

    def test_token_ids_are_told_when_asked_for(self, client: Client) -> None:
        request = client.create(tabagent={"return_token_ids": True})
        heard = client.tell(delta(request, "", 5), delta(request, "é", 6))
        assert [event.get("token_ids") for event in heard[3:]] == [[5], [6]]

    def test_the_responses_of_a_connection_are_bounded(self, client: Client) -> None:
        requests = [client.create(**OUT_OF_BAND) for _ in range(MAX_OPEN_RESPONSES)]
        assert client.error(CREATE)["code"] == "overloaded"
        client.tell(finished(requests[0]))
        client.create()

    def test_nothing_to_answer_is_refused(self) -> None:
        client = Client()
        assert client.error(CREATE)["param"] == "response.input"
        assert client.error(CREATE | {"response": {"input": []}})["param"] == "response.input"

    def test_generating_needs_its_scope(self) -> None:
        client = Client(Principal("reader", frozenset()))
        client.add("hi")
        assert client.error(CREATE)["code"] == "scope_required"

    @given(st.lists(st.text(max_size=5), max_size=8))
    def test_deltas_concatenate_to_the_text(self, pieces: list[str]) -> None:
        client = Client()
        client.add("hi")
        heard = client.tell(*answered(client.create(), *pieces))
        written = [event["delta"] for event in heard if event["type"].endswith("text.delta")]
        assert "".join(written) == "".join(pieces)
        assert heard[-1]["response"]["output"][0]["content"][0]["text"] == "".join(pieces)
        ids = [event["event_id"] for event in heard]
        assert len(set(ids)) == len(ids)


class TestCancelling:
    @pytest.mark.parametrize("by_id", [True, False])
    def test_a_response_is_cancelled(self, client: Client, by_id: bool) -> None:
        request = client.create()
        client.tell(started(request), delta(request, "so far"))
        name = {"response_id": request.request_id} if by_id else {}
        assert client.say({"type": "response.cancel", **name}) == []
        assert client.requests() == [CancelRequest(request.request_id)]
        done = client.tell(finished(request, FinishReason.CANCELLED))[-1]["response"]
        assert done["status"] == "cancelled"
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert done["output"][0]["content"][0]["text"] == "so far"
        assert texts(client.create())[-1] == ("assistant", "so far")

    def test_an_end_that_nobody_asked_for_has_no_reason(self, client: Client) -> None:
        request = client.create()
        [done] = client.tell(finished(request, FinishReason.CANCELLED))
        assert done["response"]["status_details"] == {"type": "cancelled"}
        assert done["response"]["output"] == []

    def test_without_an_id_those_beside_the_conversation_go_on(self, client: Client) -> None:
        client.create(**OUT_OF_BAND)
        error = client.error({"type": "response.cancel", "event_id": "c"})
        assert (error["code"], error["event_id"]) == ("response_not_found", "c")

    def test_what_has_ended_cannot_be_cancelled(self, client: Client) -> None:
        request = client.create()
        client.tell(finished(request))
        error = client.error({"type": "response.cancel", "response_id": request.request_id})
        assert (error["code"], error["param"]) == ("response_not_found", "response_id")


class TestWaiting:
    def test_a_place_in_the_queue_is_a_rate_limit(self, client: Client) -> None:
        request = client.create()
        [event] = client.tell(Queued(request.request_id, 3))
        assert event["type"] == "rate_limits.updated"
        assert event["tabagent"] == {"response_id": request.request_id, "queue_position": 3}
        assert event["rate_limits"][0]["remaining"] == MAX_OPEN_RESPONSES - 1

    def test_a_prompt_s_progress_is_told(self, client: Client) -> None:
        request = client.create()
        [event] = client.tell(PromptProgress(request.request_id, 5, 9))
        assert event.pop("event_id")
        assert event == {
            "type": "tabagent.prompt_progress",
            "response_id": request.request_id,
            "done": 5,
            "total": 9,
        }

    def test_a_model_that_loads_is_told_to_who_waits_once(self, client: Client) -> None:
        change = ModelStateChanged("m", ModelState.LOADING, 0.5)
        assert client.tell(change) == []
        request = client.create()
        heard = client.tell(change, change, DownloadProgress("m", "f", 1))
        assert types(heard) == ["tabagent.model.state"]
        assert (heard[0]["model"], heard[0]["progress"]) == ("m", 0.5)
        assert client.tell(ReasoningDelta(request.request_id, "hm")) == []


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
