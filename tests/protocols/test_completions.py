from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.events import FinishReason, Logprob, Started, TextDelta, TokenLogprob
from tabagent.core.requests import LOCAL
from tabagent.protocols.completions import CompletionsProtocol

from tests.protocols.peer import Peer, answered, finished, started
from tests.protocols.test_chat import TIMINGS, USAGE

BODY: dict[str, Any] = {"prompt": "hi"}
STREAM = BODY | {"stream": True}
LIKELIEST = (Logprob(2, b"y", -0.5), Logprob(4, b"y", -2.5), Logprob(3, b"", -1.5))
LOGPROBS = (
    TokenLogprob(Logprob(1, b"He", float("-inf")), ()),
    TokenLogprob(LIKELIEST[0], LIKELIEST),
)
WIRE_LOGPROBS = {
    "tokens": ["He", "y"],
    "token_logprobs": [-9999.0, -0.5],
    "top_logprobs": [{}, {"y": -0.5, "": -1.5}],
    "text_offset": [0, 2],
}


@pytest.fixture
def peer() -> Peer:
    return Peer(CompletionsProtocol(LOCAL))


def whole(peer: Peer) -> dict[str, Any]:
    assert isinstance(peer.protocol, CompletionsProtocol)
    answer: dict[str, Any] = json.loads(peer.protocol.answer())
    return answer


def test_a_stream_is_chunks_of_text_and_then_the_reason(peer: Peer) -> None:
    request = peer.ask(STREAM)
    chunks = peer.tell(*answered(request, "Hel", "", 'lo "é"'))
    common = {
        "id": request.request_id,
        "object": "text_completion",
        "created": chunks[0]["created"],
        "model": "m",
        "system_fingerprint": "tabagent-0.1.0",
    }

    def choice(text: str, reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}

    assert chunks == [
        common | {"choices": [choice("")], "seed": 7},
        common | {"choices": [choice("Hel")]},
        common | {"choices": [choice('lo "é"')]},
        common | {"choices": [choice("", "stop")], "seed": 7, "timings": TIMINGS},
    ]
    assert request.request_id.startswith("cmpl-")


def test_usage_comes_last_in_a_chunk_without_choices_when_asked_for(peer: Peer) -> None:
    request = peer.ask(STREAM | {"stream_options": {"include_usage": True}})
    *chunks, last = peer.tell(*answered(request, "a"))
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    assert (last["choices"], last["usage"]) == ([], USAGE)


def test_the_whole_answer_without_a_stream(peer: Peer) -> None:
    request = peer.ask(BODY)
    assert request.prompt == "hi"
    assert peer.tell(*answered(request, "Hel", "lo")) == []
    answer = whole(peer)
    assert answer == {
        "id": request.request_id,
        "object": "text_completion",
        "created": answer["created"],
        "model": "m",
        "choices": [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "system_fingerprint": "tabagent-0.1.0",
        "seed": 7,
        "timings": TIMINGS,
    }


def test_logprobs_have_the_legacy_shape_with_offsets_into_the_answer(peer: Peer) -> None:
    request = peer.ask(BODY | {"logprobs": 2})
    assert request.logprobs == 2
    delta = TextDelta(request.request_id, "Hey", (1, 2), LOGPROBS)
    peer.tell(started(request), delta, finished(request))
    assert whole(peer)["choices"][0]["logprobs"] == WIRE_LOGPROBS


def test_offsets_go_on_over_the_chunks_of_a_stream(peer: Peer) -> None:
    request = peer.ask(STREAM | {"logprobs": 2})
    deltas = [TextDelta(request.request_id, "Hey", (1, 2), LOGPROBS)] * 2
    _, first, second, _ = peer.tell(started(request), *deltas, finished(request))
    assert first["choices"][0]["logprobs"] == WIRE_LOGPROBS
    assert second["choices"][0]["logprobs"]["text_offset"] == [3, 5]


def test_token_ids_of_prompt_and_answer_are_returned_when_asked_for(peer: Peer) -> None:
    request = peer.ask({"prompt": [5, 6], "return_token_ids": True})
    assert request.prompt == (5, 6)
    peer.tell(*answered(request, "a", "b"))
    [choice] = whole(peer)["choices"]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([5, 6], [0, 1])


def test_the_first_chunk_has_the_prompts_ids_and_each_its_own(peer: Peer) -> None:
    request = peer.ask({"prompt": [5, 6], "return_token_ids": True, "stream": True})
    first, held_back, shown, _ = peer.tell(*answered(request, "", "b"))
    assert first["choices"][0]["prompt_token_ids"] == [5, 6]
    ids = [chunk["choices"][0]["token_ids"] for chunk in (first, held_back, shown)]
    assert ids == [[], [0], [1]]


@pytest.mark.parametrize("ids", [(8, 9), None])
def test_ids_of_a_text_prompt_are_those_the_backend_tells(
    peer: Peer, ids: tuple[int, ...] | None
) -> None:
    request = peer.ask(BODY | {"return_token_ids": True})
    assert request.return_prompt
    peer.tell(Started(request.request_id, "m", 2, prompt=ids), finished(request))
    told = whole(peer)["choices"][0]["prompt_token_ids"]
    assert told == (None if ids is None else [8, 9])


def test_tokens_are_named_by_their_ids_when_asked_for(peer: Peer) -> None:
    request = peer.ask(BODY | {"logprobs": 3, "return_tokens_as_token_ids": True})
    delta = TextDelta(request.request_id, "Hey", (1, 2), LOGPROBS)
    peer.tell(started(request), delta, finished(request))
    assert whole(peer)["choices"][0]["logprobs"] == WIRE_LOGPROBS | {
        "tokens": ["token_id:1", "token_id:2"],
        "top_logprobs": [{}, {"token_id:2": -0.5, "token_id:4": -2.5, "token_id:3": -1.5}],
    }


def test_a_short_answer_may_report_the_whole_vocabulary(peer: Peer) -> None:
    assert peer.ask(BODY | {"logprobs": 2**17, "max_tokens": 8}).logprobs == 2**17


def test_the_finish_reason_is_told(peer: Peer) -> None:
    request = peer.ask(BODY)
    peer.tell(started(request), finished(request, FinishReason.LENGTH))
    assert whole(peer)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("prompt", "taken"),
    [("", ""), (["hi"], "hi"), ([1, 2], (1, 2)), ([[1, 2]], (1, 2))],
)
def test_one_prompt_is_taken_in_each_of_its_forms(
    peer: Peer, prompt: Any, taken: str | tuple[int, ...]
) -> None:
    assert peer.ask({"prompt": prompt}).prompt == taken


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": 2**17, "max_tokens": 9}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
    ],
)
def test_wrong_fields_are_blamed(peer: Peer, fields: dict[str, Any], param: str) -> None:
    assert peer.refusal(BODY | fields) == ("invalid_parameter", param)


@given(st.lists(st.text()))
def test_the_chunks_of_a_stream_are_the_whole_answer(texts: list[str]) -> None:
    peer = Peer(CompletionsProtocol(LOCAL))
    chunks = peer.tell(*answered(peer.ask(STREAM), *texts))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "".join(texts)
