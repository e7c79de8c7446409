from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import BackendError
from tabagent.core.events import (
    Failed,
    FinishReason,
    Logprob,
    PromptProgress,
    Queued,
    TextDelta,
    TokenLogprob,
)
from tabagent.core.requests import LOCAL, Message
from tabagent.protocols.chat import ChatProtocol

from tests.protocols.peer import Peer, answered, finished, started

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = BODY | {"stream": True}
TIMINGS = {
    "queued_ms": 1.0,
    "cache_n": 3,
    "prompt_n": 2,
    "prompt_ms": 4.0,
    "prompt_per_second": 500.0,
    "predicted_n": 2,
    "predicted_ms": 8.0,
    "predicted_per_second": 250.0,
}
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 3},
}
LOGPROBS = (
    TokenLogprob(Logprob(1, "é".encode()[:1], float("-inf")), ()),
    TokenLogprob(Logprob(2, b"a", -0.5), (Logprob(2, b"a", -0.5), Logprob(3, b"b", -1.5))),
)
WIRE_LOGPROBS = {
    "content": [
        {"token": "\ufffd", "logprob": -9999.0, "bytes": [195], "id": 1, "top_logprobs": []},
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "id": 2,
            "top_logprobs": [
                {"token": "a", "logprob": -0.5, "bytes": [97], "id": 2},
                {"token": "b", "logprob": -1.5, "bytes": [98], "id": 3},
            ],
        },
    ],
    "refusal": None,
}


@pytest.fixture
def peer() -> Peer:
    return Peer(ChatProtocol(LOCAL))


def whole(peer: Peer) -> dict[str, Any]:
    protocol = peer.protocol
    assert isinstance(protocol, ChatProtocol)
    answer: dict[str, Any] = json.loads(protocol.answer())
    return answer


def test_a_stream_is_a_role_then_deltas_then_the_reason(peer: Peer) -> None:
    request = peer.ask(STREAM)
    chunks = peer.tell(
        Queued(request.request_id, 1),
        PromptProgress(request.request_id, 1, 5),
        *answered(request, "Hel", "", 'lo "é"'),
    )
    common = {
        "id": request.request_id,
        "object": "chat.completion.chunk",
        "created": chunks[0]["created"],
        "model": "m",
        "system_fingerprint": "tabagent-0.1.0",
    }

    def choice(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    assert chunks == [
        common | {"choices": [choice({"role": "assistant", "content": ""})], "seed": 7},
        common | {"choices": [choice({"content": "Hel"})]},
        common | {"choices": [choice({"content": 'lo "é"'})]},
        common | {"choices": [choice({}, "stop")], "seed": 7, "timings": TIMINGS},
    ]
    assert request.request_id.startswith("chatcmpl-")


def test_a_chunk_travels_as_a_server_sent_event_and_done_ends_them() -> None:
    protocol = ChatProtocol(LOCAL)
    assert protocol.server_sent_event('{"a":1}') == 'data: {"a":1}\n\n'
    assert protocol.end_of_stream == "data: [DONE]\n\n"


def test_usage_comes_last_in_a_chunk_without_choices_when_asked_for(peer: Peer) -> None:
    request = peer.ask(STREAM | {"stream_options": {"include_usage": True}})
    *chunks, last = peer.tell(*answered(request, "a", "b"))
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert last["choices"] == []
    assert last["usage"] == USAGE


def test_usage_is_not_mentioned_when_not_asked_for(peer: Peer) -> None:
    request = peer.ask(STREAM | {"stream_options": {"include_usage": False}})
    assert not any("usage" in chunk for chunk in peer.tell(*answered(request, "a", "b")))


def test_logprobs_come_with_their_delta(peer: Peer) -> None:
    request = peer.ask(STREAM | {"logprobs": True, "top_logprobs": 2})
    assert request.logprobs == 2
    delta = TextDelta(request.request_id, "a", (1, 2), LOGPROBS)
    _, chunk, _ = peer.tell(started(request), delta, finished(request))
    assert chunk["choices"][0]["logprobs"] == WIRE_LOGPROBS


def test_token_ids_come_with_their_delta_when_asked_for(peer: Peer) -> None:
    request = peer.ask(STREAM | {"return_token_ids": True})
    _, held_back, shown, _ = peer.tell(*answered(request, "", "a"))
    assert held_back["choices"][0]["token_ids"] == [0]
    assert shown["choices"][0]["token_ids"] == [1]


def test_the_whole_answer_without_a_stream(peer: Peer) -> None:
    request = peer.ask(BODY)
    assert peer.tell(*answered(request, "Hel", "lo")) == []
    answer = whole(peer)
    assert answer == {
        "id": request.request_id,
        "object": "chat.completion",
        "created": answer["created"],
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"content": "Hello", "role": "assistant", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
        "system_fingerprint": "tabagent-0.1.0",
        "seed": 7,
        "timings": TIMINGS,
    }


def test_the_whole_answer_has_logprobs_and_token_ids_when_asked_for(peer: Peer) -> None:
    request = peer.ask(BODY | {"logprobs": True, "return_token_ids": True})
    assert request.logprobs == 0
    delta = TextDelta(request.request_id, "a", (1, 2), LOGPROBS)
    peer.tell(started(request), delta, finished(request))
    [choice] = whole(peer)["choices"]
    assert choice["logprobs"] == WIRE_LOGPROBS
    assert choice["token_ids"] == [1, 2]


def test_there_is_no_answer_before_the_end(peer: Peer) -> None:
    request = peer.ask(BODY)
    peer.tell(started(request))
    with pytest.raises(RuntimeError, match="not finished"):
        whole(peer)


@pytest.mark.parametrize("reason", ["length", "cancelled"])
def test_the_finish_reason_is_told(peer: Peer, reason: str) -> None:
    request = peer.ask(STREAM)
    *_, last = peer.tell(started(request), finished(request, FinishReason(reason)))
    assert last["choices"][0]["finish_reason"] == reason


def test_a_stream_that_ends_before_it_started_still_begins_with_the_role(peer: Peer) -> None:
    request = peer.ask(STREAM)
    first, last = peer.tell(finished(request, FinishReason.CANCELLED))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["choices"][0]["finish_reason"] == "cancelled"


def test_a_failure_ends_a_stream_with_an_error(peer: Peer) -> None:
    request = peer.ask(STREAM)
    _, error = peer.tell(
        started(request), Failed(request.request_id, BackendError("decode_failed", "broken"))
    )
    assert error == {
        "error": {
            "message": "broken",
            "type": "server_error",
            "code": "decode_failed",
            "param": None,
        }
    }


def test_a_failure_without_a_stream_is_kept_for_the_status(peer: Peer) -> None:
    request = peer.ask(BODY)
    assert peer.tell(Failed(request.request_id, BackendError("decode_failed", "broken"))) == []
    assert isinstance(peer.protocol, ChatProtocol)
    assert peer.protocol.error is not None
    assert peer.protocol.error.code == "decode_failed"


def test_messages_become_turns_of_plain_text(peer: Peer) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    request = peer.ask(
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "developer", "content": "d"},
                {"role": "user", "content": parts, "name": "ann"},
                {"role": "assistant", "content": None},
            ]
        }
    )
    assert request.messages == (
        Message("system", "s"),
        Message("system", "d"),
        Message("user", "ab", "ann"),
        Message("assistant", ""),
    )


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_token_limit_are_taken_and_blamed(field: str) -> None:
    assert Peer(ChatProtocol(LOCAL)).ask(BODY | {field: 5}).max_tokens == 5
    refusal = Peer(ChatProtocol(LOCAL)).refusal(BODY | {field: -5})
    assert refusal == ("invalid_parameter", field)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "dance"}]}]},
         "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ],
)  # fmt: skip
def test_wrong_fields_are_blamed(peer: Peer, fields: dict[str, Any], param: str) -> None:
    assert peer.refusal(BODY | fields) == ("invalid_parameter", param)


@given(st.lists(st.text()))
def test_the_deltas_of_a_stream_are_the_whole_answer(texts: list[str]) -> None:
    streamed, plain = Peer(ChatProtocol(LOCAL)), Peer(ChatProtocol(LOCAL))
    chunks = streamed.tell(*answered(streamed.ask(STREAM), *texts))
    plain.tell(*answered(plain.ask(BODY), *texts))
    content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert content == "".join(texts) == whole(plain)["choices"][0]["message"]["content"]
