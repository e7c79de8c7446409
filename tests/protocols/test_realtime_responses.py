"""The Realtime dialect (text): responses, from their beginning to their one end."""

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
    ModelState,
    ModelStateChanged,
    PromptProgress,
    Queued,
    ReasoningDelta,
)
from tabagent.core.requests import CancelRequest, Principal, SamplingParams
from tabagent.protocols.realtime import MAX_OPEN_RESPONSES

from tests.protocols.peer import answered, finished, started, types
from tests.protocols.realtime_client import CREATE, OUT_OF_BAND, WHOLE, Client, delta, texts


@pytest.fixture
def client() -> Client:
    client = Client()
    client.add("hi", id="first")
    return client


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
        heard = client.tell(change, change)
        assert types(heard) == ["tabagent.model.state"]
        assert (heard[0]["model"], heard[0]["progress"]) == ("m", 0.5)
        assert client.tell(ReasoningDelta(request.request_id, "hm")) == []


ENDS = st.sampled_from(
    [FinishReason.STOP, FinishReason.LENGTH, FinishReason.CANCELLED, RequestError, BackendError]
)
STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["say", "cancel", "forget"])))


@given(st.lists(ENDS, min_size=1, max_size=4), STEPS)
def test_each_response_begins_and_ends_once_whatever_runs_beside_it(
    ends: list[Any], steps: list[tuple[int, str]]
) -> None:
    client = Client()
    client.add("hi")
    heard: list[dict[str, Any]] = []
    requests = []
    for number in range(len(ends)):
        request = client.ask(CREATE | {"response": {} if number == 0 else OUT_OF_BAND})
        heard += client.accept(request)
        requests.append(request)
    for number, step in steps:
        request = requests[number % len(requests)]
        if step == "say":
            heard += client.tell(delta(request, "x", 1))
        elif step == "cancel":
            heard += client.say({"type": "response.cancel", "response_id": request.request_id})
        else:
            items = [event["item"]["id"] for event in heard if event["type"] == WHOLE[1]]
            for item_id in items:
                client.say({"type": "conversation.item.delete", "item_id": item_id})
    for request, end in zip(requests, ends, strict=True):
        if isinstance(end, FinishReason):
            heard += client.tell(finished(request, end))
        else:
            code = "overloaded" if end is RequestError else "decode_failed"
            heard += client.tell(Failed(request.request_id, end(code, "no")))
    assert "error" not in types(heard)
    client.requests()  # the cancels
    for request in requests:
        own = [event for event in heard if request.request_id in json.dumps(event)]
        kinds = types(own)
        assert (kinds[0], kinds[-1]) == ("response.created", "response.done")
        assert kinds.count("response.created") == kinds.count("response.done") == 1
        assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done")
        text = "".join(event["delta"] for event in own if event["type"].endswith("text.delta"))
        output = own[-1]["response"]["output"]
        assert text == "".join(item["content"][0]["text"] for item in output)
    client.create()
