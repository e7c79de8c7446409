"""Asks a guide file through the real engine and counts the right answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .corpus import Corpus


@dataclass(slots=True)
class Score:
    """How many of a group of questions were answered word for word."""

    name: str
    asked: int = 0
    right: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}: {self.right}/{self.asked} ({self.right / self.asked:.1%})"


def score(name: str, pairs: Iterable[tuple[str, str]], ask: Callable[[str], str]) -> Score:
    """Asks each question and compares with the expected answer."""
    result = Score(name)
    for question, expected in pairs:
        answer = ask(question)
        result.asked += 1
        if answer == expected:
            result.right += 1
        else:
            result.wrong.append((question, answer))
    return result


def scores(corpus: Corpus, ask: Callable[[str], str]) -> Iterator[Score]:
    """Measures canonical questions, phrasings, unseen paraphrases and off-topic refusals."""
    topics = corpus.topics
    yield score("canonical", ((t.question, t.answer) for t in topics), ask)
    yield score("phrasings", corpus.phrasings(each=12, seed=7), ask)
    yield score("unseen", ((text, t.answer) for t in topics for text in t.unseen), ask)
    yield score("off-topic", ((text, corpus.refusal) for text in corpus.off_topic.unseen), ask)
