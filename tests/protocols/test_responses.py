from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import BackendError, RequestError
from tabagent.core.events import (
    Failed,
    FinishReason,
    ModelsListed,
    ModelState,
    ModelStateChanged,
    ModelStatus,
    PromptProgress,
    Queued,
    ReasoningDelta,
    Recorded,
    TextDelta,
    ToolCallDelta,
)
from tabagent.core.requests import (
    LOCAL,
    CancelRecorded,
    CancelRequest,
    GenerateRequest,
    ListModels,
    LoadModel,
    Message,
    Principal,
    UnloadModel,
)
from tabagent.protocols.responses import MAX_LANE_QUEUE, MAX_OPEN_RESPONSES, ResponsesProtocol

from tests.protocols.peer import Peer, answered, finished, started, types
from tests.protocols.test_chat import LOGPROBS, TIMINGS, WIRE_LOGPROBS

CREATE: dict[str, Any] = {"type": "response.create", "input": "hi"}
CANCELLED = FinishReason.CANCELLED
WHOLE = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


@pytest.fixture
def peer() -> Peer:
    return Peer(ResponsesProtocol(LOCAL))


def create(peer: Peer, **fields: Any) -> GenerateRequest:
    """Ask for a response that the engine accepts."""
    request = peer.ask(CREATE | fields)
    assert types(peer.accept(request)) == ["response.created"]
    return request


def overloaded(request: GenerateRequest) -> Failed:
    return Failed(request.request_id, RequestError("overloaded", "later"))


def test_a_whole_conversation(peer: Peer) -> None:
    request = peer.ask(CREATE | {"stream_id": "a", "instructions": "Be brief.", "model": "m"})
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    messages = peer.accept(request) + peer.tell(*answered(request, "Hel", "", 'lo "é"'))
    created = messages[0]["response"]["created_at"]
    item_id = messages[2]["item"]["id"]
    response = {
        "id": request.request_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "max_output_tokens": None,
        "metadata": {},
        "model": "m",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": None,
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "seed": None,
        "timings": None,
    }
    item = {"id": item_id, "type": "message", "status": "in_progress", "role": "assistant"}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    full = part | {"text": 'Hello "é"'}
    done = item | {"status": "completed", "content": [full]}
    at = {"item_id": item_id, "output_index": 0, "content_index": 0}
    running = response | {"seed": 7}
    expected: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": running},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        {"type": "response.content_part.added", **at, "part": part},
        {"type": "response.output_text.delta", **at, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", **at, "delta": 'lo "é"', "logprobs": []},
        {"type": "response.output_text.done", **at, "text": full["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": full},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {
            "type": "response.completed",
            "response": running
            | {
                "status": "completed",
                "completed_at": messages[-1]["response"]["completed_at"],
                "output": [done],
                "usage": {
                    "input_tokens": 5,
                    "input_tokens_details": {"cached_tokens": 3},
                    "output_tokens": 2,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 7,
                },
                "timings": TIMINGS,
            },
        },
    ]
    for number, event in enumerate(expected):
        event |= {"sequence_number": number, "stream_id": "a"}
    assert messages == expected
    assert request.request_id.startswith("resp_")


def test_every_message_says_its_type_first(peer: Peer) -> None:
    request = peer.ask(CREATE)
    peer.protocol.request_accepted(request.request_id, "m")
    for event in answered(request, "a"):
        peer.protocol.send_event(event)
    texts = peer.protocol.messages_to_send()
    assert all(text.startswith('{"type":"response.') for text in texts)


def test_the_first_message_names_the_model_that_was_chosen(peer: Peer) -> None:
    peer.protocol.request_accepted(peer.ask(CREATE).request_id, "chosen")
    [created] = peer.hear()
    assert created["response"]["model"] == "chosen"


def test_without_a_stream_id_none_is_echoed(peer: Peer) -> None:
    request = create(peer)
    assert not any("stream_id" in message for message in peer.tell(*answered(request, "a")))


def test_the_first_event_stands_for_the_acceptance_when_that_is_not_told(peer: Peer) -> None:
    request = peer.ask(CREATE)
    assert types(peer.tell(*answered(request, "a"))) == WHOLE


def test_a_response_that_stops_at_once_has_an_empty_message(peer: Peer) -> None:
    request = create(peer)
    *_, last = peer.tell(*answered(request))
    assert last["response"]["output"][0]["content"][0]["text"] == ""


def test_waiting_is_told_without_sequence_numbers(peer: Peer) -> None:
    request = create(peer, stream_id="a")
    queued = Queued(request.request_id, 2)
    progress = PromptProgress(request.request_id, 3, 5)
    common = {"response_id": request.request_id, "stream_id": "a"}
    assert peer.tell(queued) == [{"type": "tabagent.queued", "position": 2, **common}]
    assert peer.tell(progress) == [
        {"type": "tabagent.prompt_progress", "done": 3, "total": 5, **common}
    ]
    assert peer.tell(started(request))[0]["sequence_number"] == 1


def test_waiting_is_not_told_to_who_forbids_it(peer: Peer) -> None:
    request = create(peer, tabagent={"events": False})
    assert peer.tell(Queued(request.request_id, 2)) == []


def test_the_token_limit_makes_a_response_incomplete(peer: Peer) -> None:
    request = create(peer, max_output_tokens=1)
    assert request.max_tokens == 1
    delta = TextDelta(request.request_id, "a", (1,))
    messages = peer.tell(started(request), delta, finished(request, FinishReason.LENGTH))
    assert types(messages) == [*WHOLE[1:-1], "response.incomplete"]
    response = messages[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["total_tokens"] == 7


def test_cancelling_makes_a_response_cancelled(peer: Peer) -> None:
    request = create(peer)
    answers = peer.say({"type": "response.cancel", "response_id": request.request_id})
    assert answers == []
    assert peer.requests() == [CancelRequest(request.request_id)]
    *_, last = peer.tell(finished(request, CANCELLED))
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "cancelled"
    assert last["response"]["incomplete_details"] == {"reason": "cancelled"}
    assert last["response"]["output"] == []


def test_reading_the_prompt_only_completes_with_usage_and_no_output(peer: Peer) -> None:
    request = create(peer, generate=False, max_output_tokens=5)
    assert request.max_tokens == 0
    messages = peer.tell(started(request), finished(request, FinishReason.LENGTH))
    assert types(messages) == ["response.in_progress", "response.completed"]
    assert messages[-1]["response"]["output"] == []
    assert messages[-1]["response"]["usage"]["input_tokens"] == 5


def test_a_failure_fails_the_response(peer: Peer) -> None:
    request = create(peer)
    error = BackendError("decode_failed", "broken")
    delta = TextDelta(request.request_id, "a", (1,))
    *_, last = peer.tell(started(request), delta, Failed(request.request_id, error))
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "decode_failed", "message": "broken"}
    assert last["response"]["output"][0]["content"][0]["text"] == "a"


def test_reasoning_and_tool_calls_are_no_part_of_the_answer(peer: Peer) -> None:
    request = create(peer)
    reasoning = ReasoningDelta(request.request_id, "hm")
    assert peer.tell(reasoning, ToolCallDelta(request.request_id, 0, "{}")) == []


def test_a_refused_request_gets_an_error_and_no_response(peer: Peer) -> None:
    request = peer.ask(CREATE | {"stream_id": "a"})
    assert peer.tell(overloaded(request)) == [
        {
            "type": "error",
            "error": {
                "message": "later",
                "type": "rate_limit_error",
                "code": "overloaded",
                "param": None,
            },
            "stream_id": "a",
        }
    ]


def test_logprobs_come_when_included(peer: Peer) -> None:
    request = create(peer, include=["message.output_text.logprobs"], top_logprobs=2)
    assert request.logprobs == 2
    delta = TextDelta(request.request_id, "a", (1, 2), LOGPROBS)
    messages = peer.tell(started(request), delta, finished(request))
    expected = WIRE_LOGPROBS["content"]
    assert messages[3]["logprobs"] == messages[4]["logprobs"] == expected
    assert messages[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


def test_top_logprobs_alone_include_none(peer: Peer) -> None:
    assert create(peer, top_logprobs=2).logprobs is None


def test_token_ids_come_when_asked_for(peer: Peer) -> None:
    request = create(peer, return_token_ids=True)
    messages = peer.tell(*answered(request, "", "b"))
    assert [message.get("token_ids") for message in messages[3:5]] == [[0], [1]]
    assert messages[-1]["response"]["output"][0]["content"][0]["token_ids"] == [0, 1]


def test_settings_are_echoed_in_the_response(peer: Peer) -> None:
    settings = {
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "user": "ann",
        "max_output_tokens": 9,
        "seed": 3,
    }
    request = peer.ask(CREATE | settings)
    [created] = peer.accept(request)
    assert settings.items() <= created["response"].items()


def test_a_tool_choice_without_tools_is_ignored(peer: Peer) -> None:
    request = peer.ask(CREATE | {"tool_choice": {"type": "web_search"}, "tools": []})
    [created] = peer.accept(request)
    assert created["response"]["tool_choice"] == "auto"


def test_input_items_become_turns_of_plain_text(peer: Peer) -> None:
    request = create(
        peer,
        input=[
            {"role": "developer", "content": "d"},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a"},
                    {"type": "input_text", "text": "b"},
                ],
            },
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "c", "annotations": []}],
            },
        ],
    )
    assert request.messages == (
        Message("system", "d"),
        Message("user", "ab"),
        Message("assistant", "c"),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "king", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"stream_id": 5}, "stream_id"),
        ({"stream_id": "x" * 129}, "stream_id"),
        ({"type": 5}, "type"),
    ],
)
def test_wrong_fields_are_blamed(peer: Peer, fields: dict[str, Any], param: str) -> None:
    assert peer.refusal(CREATE | fields) == ("invalid_parameter", param)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b'{"type":"tabagent.ping"}', "invalid_message"),
        ("nonsense", "invalid_message"),
        ("[]", "invalid_message"),
        ("{}", "invalid_message"),
        ('{"type":"dance"}', "unknown_type"),
        ('{"type":"response.create","input":"a","temperature":NaN}', "invalid_message"),
    ],
)
def test_what_is_not_understood_gets_an_error_and_the_connection_lives_on(
    peer: Peer, message: str | bytes, code: str
) -> None:
    assert peer.refusal(message)[0] == code
    assert peer.say({"type": "tabagent.ping"}) == [{"type": "tabagent.pong"}]


def test_a_response_needs_its_scope() -> None:
    reader = Peer(ResponsesProtocol(Principal("reader", frozenset())))
    assert reader.refusal(CREATE) == ("scope_required", None)


def test_an_error_names_the_lane_of_its_message(peer: Peer) -> None:
    [error] = peer.say({"type": "dance", "stream_id": "a"})
    assert error["stream_id"] == "a"


def test_pings_are_answered_and_pongs_are_not(peer: Peer) -> None:
    ping = {"type": "tabagent.ping", "stream_id": "a"}
    assert peer.say(ping) == [{"type": "tabagent.pong", "stream_id": "a"}]
    assert peer.say({"type": "tabagent.pong"}) == []


class TestLanes:
    def test_the_responses_of_a_lane_run_one_after_the_other(self, peer: Peer) -> None:
        first = create(peer, stream_id="a")
        assert peer.say(CREATE | {"stream_id": "a", "input": "second"}) == []
        assert peer.requests() == []
        assert types(peer.tell(*answered(first, "x"))) == WHOLE[1:]
        [second] = peer.requests()
        assert isinstance(second, GenerateRequest)
        assert second.messages == (Message("user", "second"),)
        [created] = peer.accept(second)
        assert (created["sequence_number"], created["stream_id"]) == (0, "a")

    def test_different_lanes_run_in_parallel(self, peer: Peer) -> None:
        requests = [create(peer), create(peer, stream_id="a"), create(peer, stream_id="b")]
        deltas = [TextDelta(request.request_id, "x", (1,)) for request in requests]
        heard = peer.tell(*map(started, requests), *deltas)
        lanes = [message.get("stream_id") for message in heard]
        assert lanes == [None, "a", "b"] + [None] * 3 + ["a"] * 3 + ["b"] * 3

    def test_a_refused_request_frees_its_lane(self, peer: Peer) -> None:
        first = peer.ask(CREATE)
        peer.say(CREATE)
        peer.tell(overloaded(first))
        assert len(peer.requests()) == 1

    def test_cancelling_a_lane_ends_what_waits_in_it_too(self, peer: Peer) -> None:
        running = create(peer, stream_id="a")
        other = create(peer, stream_id="b")
        peer.say(CREATE | {"stream_id": "a"})
        assert peer.say({"type": "response.cancel", "stream_id": "a"}) == []
        assert peer.requests() == [CancelRequest(running.request_id)]
        peer.say(CREATE | {"stream_id": "a", "input": "after"})
        heard = peer.tell(finished(running, CANCELLED))
        assert types(heard) == ["response.incomplete", "response.created", "response.incomplete"]
        assert [message["sequence_number"] for message in heard[1:]] == [0, 1]
        assert heard[2]["response"]["status"] == "cancelled"
        [after] = peer.requests()
        assert isinstance(after, GenerateRequest)
        assert after.messages == (Message("user", "after"),)
        assert types(peer.tell(*answered(other, "x")))[-1] == "response.completed"

    def test_cancelling_without_a_name_means_the_default_lane(self, peer: Peer) -> None:
        request = create(peer)
        peer.say({"type": "response.cancel"})
        assert peer.requests() == [CancelRequest(request.request_id)]

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({}, "stream_id"),
            ({"stream_id": "a"}, "stream_id"),
        ],
    )
    def test_cancelling_what_does_not_run_is_an_error(
        self, peer: Peer, fields: dict[str, str], param: str
    ) -> None:
        refusal = peer.refusal({"type": "response.cancel", **fields})
        assert refusal == ("response_not_found", param)

    def test_what_does_not_run_here_may_be_a_recorded_response(self, peer: Peer) -> None:
        assert peer.say({"type": "response.cancel", "response_id": "x", "stream_id": "a"}) == []
        assert peer.requests() == [CancelRecorded("x")]
        refusal = RequestError("response_not_found", "no", param="response_id")
        [answer] = peer.tell(Failed("x", refusal))
        assert (answer["error"]["code"], answer["stream_id"]) == ("response_not_found", "a")

    def test_a_finished_response_is_looked_for_among_the_recorded(self, peer: Peer) -> None:
        request = create(peer)
        peer.tell(*answered(request))
        peer.say({"type": "response.cancel", "response_id": request.request_id})
        assert peer.requests() == [CancelRecorded(request.request_id)]
        assert peer.tell(Recorded(request.request_id, (), ended=True)) == []

    def test_the_queue_of_a_lane_is_bounded(self, peer: Peer) -> None:
        create(peer)
        for _ in range(MAX_LANE_QUEUE):
            assert peer.say(CREATE) == []
        assert peer.refusal(CREATE) == ("overloaded", None)

    def test_the_responses_of_a_connection_are_bounded(self, peer: Peer) -> None:
        requests = [create(peer, stream_id=str(lane)) for lane in range(MAX_OPEN_RESPONSES)]
        assert peer.refusal(CREATE | {"stream_id": "more"}) == ("overloaded", None)
        peer.tell(*answered(requests[0]))
        create(peer, stream_id="more")


class TestModels:
    STATUS = ModelStatus("m", "gguf", ModelState.READY, 1.0, None, 4096, 1000, 1700000000)
    WIRE: dict[str, Any] = {  # noqa: RUF012
        "id": "m",
        "object": "model",
        "created": 1700000000,
        "owned_by": "tabagent",
        "backend": "gguf",
        "state": "ready",
        "progress": 1.0,
        "error": None,
        "context_length": 4096,
        "size_bytes": 1000,
    }

    def test_models_are_listed(self, peer: Peer) -> None:
        assert peer.say({"type": "tabagent.model.list", "stream_id": "a"}) == []
        [request] = peer.requests()
        assert isinstance(request, ListModels)
        assert peer.tell(ModelsListed(request.request_id, (self.STATUS,))) == [
            {"type": "tabagent.model.list", "data": [self.WIRE], "stream_id": "a"}
        ]

    @pytest.mark.parametrize(("verb", "kind"), [("load", LoadModel), ("unload", UnloadModel)])
    def test_models_are_loaded_and_unloaded(
        self, peer: Peer, verb: str, kind: type[LoadModel | UnloadModel]
    ) -> None:
        assert peer.say({"type": f"tabagent.model.{verb}", "model": "m"}) == []
        [request] = peer.requests()
        assert isinstance(request, kind)
        assert request.model == "m"
        assert peer.tell(ModelsListed(request.request_id, (self.STATUS,))) == [
            {"type": f"tabagent.model.{verb}", "model": self.WIRE}
        ]

    def test_a_failed_load_is_an_error(self, peer: Peer) -> None:
        peer.say({"type": "tabagent.model.load", "model": "m", "stream_id": "a"})
        [request] = peer.requests()
        assert isinstance(request, LoadModel)
        error = BackendError("gguf_invalid", "not a model")
        [answer] = peer.tell(Failed(request.request_id, error))
        assert (answer["type"], answer["stream_id"]) == ("error", "a")
        assert answer["error"]["code"] == "gguf_invalid"

    @pytest.mark.parametrize("verb", ["load", "unload"])
    def test_changing_models_needs_its_scope_and_a_model(self, peer: Peer, verb: str) -> None:
        message = {"type": f"tabagent.model.{verb}"}
        assert peer.refusal(message) == ("invalid_parameter", "model")
        page = Peer(ResponsesProtocol(Principal("https://page.example")))
        assert page.refusal(message | {"model": "m"}) == ("scope_required", None)

    def test_who_waits_hears_how_the_load_goes_each_state_once(self, peer: Peer) -> None:
        create(peer)
        loading = ModelStateChanged("m", ModelState.LOADING, 0.5)
        wire = {"type": "tabagent.model.state", "model": "m", "state": "loading", "progress": 0.5}
        assert peer.tell(loading, loading) == [wire | {"error": None}]
        error = BackendError("model_load_failed", "broken")
        [failed] = peer.tell(ModelStateChanged("m", ModelState.FAILED, 0.0, error))
        assert failed["error"]["code"] == "model_load_failed"

    def test_who_asked_for_a_load_hears_how_it_goes(self, peer: Peer) -> None:
        peer.say({"type": "tabagent.model.load", "model": "m"})
        heard = peer.tell(ModelStateChanged("m", ModelState.LOADING, 0.5))
        assert types(heard) == ["tabagent.model.state"]

    def test_who_does_not_wait_hears_nothing(self, peer: Peer) -> None:
        loading = ModelStateChanged("m", ModelState.LOADING, 0.5)
        assert peer.tell(loading) == []
        peer.ask(CREATE)  # not accepted yet: `response.created` must come first
        assert peer.tell(loading) == []


@given(st.lists(st.text()), st.text(), st.booleans())
def test_numbers_are_dense_and_deltas_are_the_text(
    texts: list[str], lane: str, with_ids: bool
) -> None:
    peer = Peer(ResponsesProtocol(LOCAL))
    request = peer.ask(CREATE | {"stream_id": lane[:128], "return_token_ids": with_ids})
    heard = peer.accept(request) + peer.tell(*answered(request, *texts))
    assert [message["sequence_number"] for message in heard] == list(range(len(heard)))
    assert {message["stream_id"] for message in heard} == {lane[:128]}
    deltas = [message["delta"] for message in heard if "delta" in message]
    assert "".join(deltas) == "".join(texts)
    assert heard[-1]["response"]["output"][0]["content"][0]["text"] == "".join(texts)


@given(st.binary() | st.text() | st.dictionaries(st.text(), st.text()).map(json.dumps))
def test_no_message_of_a_peer_raises(message: str | bytes) -> None:
    peer = Peer(ResponsesProtocol(LOCAL))
    peer.say(message)
    assert peer.say({"type": "tabagent.ping"})[-1] == {"type": "tabagent.pong"}
