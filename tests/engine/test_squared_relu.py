"""The graph of BitNet-b1.58-2B-4T in all the ways in which an engine computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.engine.test_engine import CREDIT, Reader
from tests.reference_logits import ReferenceLogits, cosine
from tests.ternary_fixtures import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = 1200
"""Tokens of a prompt that is read in three steps."""


@pytest.fixture(scope="module")
def reference() -> ReferenceLogits:
    if REFERENCE is None:
        pytest.skip("no reference data beside the repository")
    return ReferenceLogits(REFERENCE, "bitnet-b1.58")


@pytest.fixture
def reader(reference: ReferenceLogits, home: Path) -> Iterator[Reader]:
    with Reader(reference.model, threads=2) as reader:
        yield reader


def ask(reader: Reader, request_id: int, prompt: list[int], principal: str = "") -> None:
    """Ask for the next token and the log-probabilities of all."""
    reader.engine.submit(
        request_id,
        prompt,
        credit=CREDIT,
        max_tokens=1,
        temperature=0,
        ignore_eos=True,
        logprobs=reader.engine.info["vocab_size"],
        principal=principal,
    )


def logprobs(reader: Reader, request_id: int) -> dict[int, float]:
    reader.until_ended(request_id)
    assert reader.last(request_id)[:3] == ("finished", request_id, "length")
    [(_, top)] = [
        entry
        for event in reader.events[request_id]
        if event[0] == "delta"
        for entry in event[4] or ()
    ]
    return {token: logprob for token, _, logprob in top}


def long_prompt(reader: Reader) -> list[int]:
    rng = np.random.default_rng(2)
    tokens: list[int] = rng.integers(0, reader.engine.info["vocab_size"], LONG).tolist()
    return tokens


def alike(one: dict[int, float], other: dict[int, float]) -> float:
    tokens = sorted(one)
    return cosine(*(np.array([told[token] for token in tokens]) for told in (one, other)))


def test_prompts_of_any_length_have_the_logits_of_the_original(
    reader: Reader, reference: ReferenceLogits
) -> None:
    for length in range(1, len(reference.prompt) + 1):
        ask(reader, length, reference.prompt[:length], principal=str(length))
        reference.compare(length, logprobs(reader, length))


def test_a_prompt_that_continues_another_one_has_them_too(
    reader: Reader, reference: ReferenceLogits
) -> None:
    for length in range(1, len(reference.prompt) + 1, 5):
        ask(reader, length, reference.prompt[:length])
        reference.compare(length, logprobs(reader, length))


def test_four_sequences_of_one_batch_have_them(reader: Reader, reference: ReferenceLogits) -> None:
    lengths = (3, 17, 30, 51)
    for length in lengths:
        ask(reader, length, reference.prompt[:length], principal=str(length))
    for length in lengths:
        reference.compare(length, logprobs(reader, length))


def test_a_prompt_read_in_steps_is_the_same_whole_and_continued(reader: Reader) -> None:
    prompt = long_prompt(reader)
    ask(reader, 1, prompt, principal="whole")
    whole = logprobs(reader, 1)
    assert any(event[0] == "progress" for event in reader.events[1])
    ask(reader, 2, prompt[: LONG - 100], principal="continued")
    logprobs(reader, 2)
    ask(reader, 3, prompt, principal="continued")
    assert alike(whole, logprobs(reader, 3)) > 0.999
    assert reader.started(3)[3] > 0


def test_after_a_cancel_within_a_prompt_the_next_one_is_right(
    reader: Reader, reference: ReferenceLogits
) -> None:
    ask(reader, 1, long_prompt(reader))
    while not any(event[0] == "progress" for event in reader.events.get(1, ())):
        reader.step()
    reader.engine.cancel(1)
    reader.until_ended(1)
    ask(reader, 2, reference.prompt)
    reference.compare(len(reference.prompt), logprobs(reader, 2))
