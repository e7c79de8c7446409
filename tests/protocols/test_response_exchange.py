from __future__ import annotations

import json
from typing import Any

import pytest
from tabagent.core.errors import BackendError
from tabagent.core.events import Failed, ModelState, ModelStateChanged, Queued
from tabagent.core.requests import LOCAL
from tabagent.protocols.response_exchange import ResponsesExchange

from tests.protocols.peer import Peer, answered, started, types
from tests.protocols.test_responses import WHOLE

BODY: dict[str, Any] = {"input": "hi"}
STREAM = BODY | {"stream": True}
LOADING = ModelStateChanged("m", ModelState.LOADING, 0.5)


@pytest.fixture
def exchange() -> ResponsesExchange:
    return ResponsesExchange(LOCAL)


@pytest.fixture
def peer(exchange: ResponsesExchange) -> Peer:
    return Peer(exchange)


def test_a_stream_is_the_events_of_one_response(peer: Peer) -> None:
    request = peer.ask(STREAM)
    heard = peer.accept(request) + peer.tell(*answered(request, "a"))
    assert types(heard) == WHOLE
    assert [message["sequence_number"] for message in heard] == list(range(len(WHOLE)))


def test_an_event_travels_under_its_type(exchange: ResponsesExchange) -> None:
    peer = Peer(exchange)
    request = peer.ask(STREAM)
    exchange.request_accepted(request.request_id, "m")
    [message] = exchange.messages_to_send()
    expected = f"event: response.created\ndata: {message}\n\n"
    assert exchange.server_sent_event(message) == expected


def test_waiting_is_told_only_when_asked_for(peer: Peer) -> None:
    request = peer.ask(STREAM)
    peer.accept(request)
    assert peer.tell(LOADING, Queued(request.request_id, 1)) == []


def test_waiting_is_told_when_asked_for_and_not_before_the_response(peer: Peer) -> None:
    request = peer.ask(STREAM | {"tabagent": {"events": True}})
    assert peer.tell(LOADING) == []
    peer.accept(request)
    heard = peer.tell(LOADING, Queued(request.request_id, 1))
    assert types(heard) == ["tabagent.model.state", "tabagent.queued"]


def test_without_a_stream_the_answer_is_the_finished_response(exchange: ResponsesExchange) -> None:
    peer = Peer(exchange)
    request = peer.ask(BODY)
    assert peer.accept(request) == []
    assert peer.tell(*answered(request, "a", "b")) == []
    answer = json.loads(exchange.answer())
    assert (answer["id"], answer["status"]) == (request.request_id, "completed")
    assert answer["output"][0]["content"][0]["text"] == "ab"


def test_a_failure_is_the_last_event_and_is_kept_for_the_status(
    exchange: ResponsesExchange,
) -> None:
    peer = Peer(exchange)
    request = peer.ask(STREAM)
    failure = Failed(request.request_id, BackendError("decode_failed", "broken"))
    *_, last = peer.tell(started(request), failure)
    assert last["type"] == "response.failed"
    assert exchange.error is failure.error


def test_a_refused_body_is_kept_for_the_status(exchange: ResponsesExchange) -> None:
    assert Peer(exchange).say(STREAM | {"temperature": -1}) == []
    assert exchange.error is not None
    assert (exchange.error.code, exchange.error.param) == ("invalid_parameter", "temperature")


def test_without_a_request_there_is_nothing_to_answer(exchange: ResponsesExchange) -> None:
    with pytest.raises(RuntimeError, match="no request"):
        exchange.answer()
