"""Long messages travel in pieces and come out whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import ProtocolError
from tabagent.protocols.chunks import MAX_OPEN, ChunkJoiner, split_message

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 1024
json_texts = st.text(max_size=3000).map(lambda text: json.dumps(text, ensure_ascii=False))


def chunk(index: int, data: str, *, last: bool = False, id: str = "a") -> str:
    fields = {"type": "tabagent.chunk", "id": id, "index": index, "last": last, "data": data}
    return json.dumps(fields)


def join(messages: Iterable[str], joiner: ChunkJoiner | None = None) -> list[str]:
    joiner = joiner or ChunkJoiner(1 << 20)
    joined = [joiner.receive_message(message) for message in messages]
    return [message for message in joined if message is not None]


def refused(joiner: ChunkJoiner, message: str) -> str:
    with pytest.raises(ProtocolError) as caught:
        joiner.receive_message(message)
    return caught.value.code


@given(message=json_texts, max_size=st.integers(256, 2048))
def test_every_message_comes_out_as_it_went_in(message: str, max_size: int) -> None:
    chunks = split_message(message.encode(), max_size, "c1")
    assert all(len(chunk) <= max_size for chunk in chunks)
    assert join(chunk.decode() for chunk in chunks) == [message]


def test_a_message_that_fits_travels_alone() -> None:
    message = b'"' + b"x" * (LIMIT - 2) + b'"'
    assert split_message(message, LIMIT, "c1") == [message]


def test_a_message_of_one_byte_more_travels_in_two_chunks() -> None:
    message = b'"' + b"x" * (LIMIT - 1) + b'"'
    chunks = [msgspec.json.decode(chunk) for chunk in split_message(message, LIMIT, "c1")]
    assert [(chunk["type"], chunk["id"], chunk["index"], chunk["last"]) for chunk in chunks] == [
        ("tabagent.chunk", "c1", 0, False),
        ("tabagent.chunk", "c1", 1, True),
    ]


def test_nothing_is_cut_inside_a_character() -> None:
    message = json.dumps("😀€é" * 500, ensure_ascii=False)
    chunks = split_message(message.encode(), LIMIT, "c1")
    assert "".join(msgspec.json.decode(chunk)["data"] for chunk in chunks) == message


def test_messages_of_different_ids_may_be_interleaved() -> None:
    messages = [chunk(0, "[1", id="a"), chunk(0, "[2", id="b"), '{"type":"between"}']
    messages += [chunk(1, "]", id="b", last=True), chunk(1, "]", id="a", last=True)]
    assert join(messages) == ['{"type":"between"}', "[2]", "[1]"]


@pytest.mark.parametrize(
    "message",
    [
        '{"note":"tabagent.chunk"}',
        '["tabagent.chunk"',
        '{"type":1}',
        '{"type":"tabagent.chunk","id":"a","index":0,"last":true,"data":"\\ud83d"}',
    ],
)
def test_what_only_mentions_chunks_or_is_no_json_passes_unchanged(message: str) -> None:
    assert join([message]) == [message]


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"tabagent.chunk"}',
        chunk(-1, "x"),
        chunk(1, "x"),
        chunk(0, "x", id=""),
    ],
)
def test_a_malformed_chunk_is_refused(message: str) -> None:
    assert refused(ChunkJoiner(LIMIT), message) == "invalid_message"


def test_a_chunk_out_of_turn_spoils_its_message_only() -> None:
    joiner = ChunkJoiner(LIMIT)
    assert join([chunk(0, "[1", id="good"), chunk(0, "[2", id="bad")], joiner) == []
    assert refused(joiner, chunk(2, "]", id="bad")) == "invalid_message"
    rest = [chunk(3, "]", id="bad", last=True), chunk(1, "]", id="good", last=True)]
    assert join(rest, joiner) == ["[1]"]


def test_a_joined_message_over_the_limit_is_refused_once() -> None:
    joiner = ChunkJoiner(8)
    assert join([chunk(0, "[" + " " * 7)], joiner) == []
    assert refused(joiner, chunk(1, "é")) == "message_too_big"
    assert join([chunk(2, "x" * 100), chunk(3, "]", last=True)], joiner) == []
    assert join([chunk(0, "[1]", last=True)], joiner) == ["[1]"]


def test_the_number_of_incomplete_messages_is_bounded() -> None:
    joiner = ChunkJoiner(LIMIT)
    assert join([chunk(0, "[", id=f"{number}") for number in range(MAX_OPEN)], joiner) == []
    assert refused(joiner, chunk(0, "[", id="one more")) == "invalid_message"
    assert join([chunk(1, "]", id="0", last=True)], joiner) == ["[]"]
