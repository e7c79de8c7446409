"""Tokenises examples with the engine that will run the guide, and packs them into batches."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from tabagent_engine import render_template

from .network import Batch
from .pieces import END_OF_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tabagent_engine import GGUFHandler

    from .corpus import Corpus

TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
LENGTH = 192
# The first tokens decide which answer it is; the rest follows by heart.
FIRST_TOKENS = 4
FIRST_WEIGHT = 4.0
BARE_SHARE = 0.04


class Example(NamedTuple):
    """One question and answer as token ids."""

    prompt: list[int]
    answer: list[int]


def rendered(question: str) -> str:
    """The prompt of one question, through the model's own chat template."""
    return render_template(TEMPLATE, [{"role": "user", "content": question}])


def examples(
    corpus: Corpus, engine: GGUFHandler, off_topic_share: float, seed: int
) -> Iterator[Example]:
    """Yields examples for ever; a few are bare text, as `/v1/completions` would send it."""

    def ids(text: str) -> list[int]:
        return engine.tokenize(text, add_special=False)

    rng = random.Random(seed)
    for question, answer in corpus.examples(seed, off_topic_share):
        yield Example(ids(rendered(question)), [*ids(answer), END_OF_ANSWER])
        if rng.random() < BARE_SHARE:
            topic = rng.choice(corpus.topics)
            yield Example(ids(topic.question), [*ids(f" {topic.answer}"), END_OF_ANSWER])


def batches(source: Iterator[Example], rows: int) -> Iterator[Batch]:
    """Packs examples into rows of `LENGTH` tokens; only answers carry weight."""
    example = next(source)
    while True:
        tokens, targets, positions, segments = np.zeros((4, rows, LENGTH), np.int32)
        weights = np.zeros((rows, LENGTH), np.float32)
        for row in range(rows):
            at = 0
            while at + (size := len(example.prompt) + len(example.answer) - 1) <= LENGTH:
                ids = example.prompt + example.answer
                span = slice(at, at + size)
                tokens[row, span], targets[row, span] = ids[:-1], ids[1:]
                positions[row, span], segments[row, span] = np.arange(size), at + 1
                first = at + len(example.prompt) - 1
                weights[row, first : span.stop] = 1.0
                weights[row, first : first + min(FIRST_TOKENS, len(example.answer))] = FIRST_WEIGHT
                at = span.stop
                example = next(source)
        yield Batch(*map(jnp.asarray, (tokens, targets, weights, positions, segments)))
