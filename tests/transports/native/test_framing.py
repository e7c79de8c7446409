"""Frames come out as they went in, however the bytes are cut."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent_native.framing import (
    MAX_FRAME_TO_BROWSER,
    Frame,
    FrameDecoder,
    OversizedFrame,
    encode_frame,
)

LIMIT = 64

messages = st.lists(st.binary(max_size=LIMIT * 2), max_size=8)


def decode(stream: bytes, cuts: list[int], limit: int = LIMIT) -> tuple[list[Frame], FrameDecoder]:
    decoder = FrameDecoder(limit)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    frames: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        frames += decoder.receive_data(stream[start:end])
    return frames, decoder


def test_a_frame_is_its_length_in_native_order_and_the_message() -> None:
    assert encode_frame(b"{}") == (2).to_bytes(4, sys.byteorder) + b"{}"


@given(sent=messages, cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_any_chunking_gives_the_same_frames(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(message, LIMIT * 2) for message in sent)
    frames, decoder = decode(stream, cuts)
    expected = [m if len(m) <= LIMIT else OversizedFrame(len(m)) for m in sent]
    assert frames == expected
    assert decoder.buffered == 0


@given(stream=st.binary(max_size=400), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_garbage_never_raises_nor_is_kept_beyond_the_limit(stream: bytes, cuts: list[int]) -> None:
    frames, decoder = decode(stream, cuts)
    whole, _ = decode(stream, [])
    assert frames == whole
    assert decoder.buffered <= LIMIT + 4


def test_an_oversized_frame_is_told_of_before_it_has_arrived() -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive_data(encode_frame(b"x" * 100, 100)[:4]) == [OversizedFrame(100)]
    assert decoder.receive_data(b"x" * 99) == []
    assert decoder.receive_data(b"x" + encode_frame(b"next")) == [b"next"]


def test_a_browser_is_never_sent_more_than_it_takes() -> None:
    assert len(encode_frame(b"x" * MAX_FRAME_TO_BROWSER)) == MAX_FRAME_TO_BROWSER + 4
    with pytest.raises(ValueError, match="over the limit"):
        encode_frame(b"x" * (MAX_FRAME_TO_BROWSER + 1))
