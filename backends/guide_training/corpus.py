"""Turns `questions.toml` into an endless stream of questions, as people type them, and answers."""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

INNERMOST = re.compile(r"\(([^()]*)\)")
SET_NAME = re.compile(r"\{(\w+)\}")
LETTERS = "abcdefghijklmnopqrstuvwxyz"

OPENINGS = (
    "please|hey|hi|hello|so|ok|well|and|sorry|quick question|one question|question|can you tell me|"
    "could you tell me|tell me|please tell me|i want to know|i would like to know|id like to know|"
    "do you know|could you explain|please explain|explain|excuse me|help|now|then|also|let me know|"
    "i wonder|im new here|i am new|i have a question|can you help me"
).split("|")
CLOSINGS = (
    "please|thanks|thank you|for me|now|today|exactly|again|then|here|right now|help"
).split("|")
PRODUCT = ("tabagent", "tab agent", "it", "this", "the server", "this server", "your server")
FILLERS = frozenset(
    "a an the is are do does i it to of for in on my me can you how what with and or at be will "
    "should would could this that there get have has any some".split()
)


@dataclass(frozen=True, slots=True)
class Topic:
    """One answer and the questions that ask for it."""

    question: str
    answer: str
    phrasings: Sequence[str]
    unseen: Sequence[str]


def to_alternation(phrasing: str, sets: Mapping[str, str]) -> str:
    """Replaces each `{name}` by the alternation it stands for."""
    while SET_NAME.search(phrasing):
        phrasing = SET_NAME.sub(lambda found: f"({sets[found[1]]})", phrasing)
    return phrasing


def expand(alternation: str, rng: random.Random) -> str:
    """Chooses one alternative in every `(a|b)`, innermost first."""
    while "(" in alternation:
        alternation = INNERMOST.sub(lambda found: rng.choice(found[1].split("|")), alternation)
    return " ".join(alternation.split())


def pattern_of(alternation: str) -> re.Pattern[str]:
    """A pattern for all expansions of an alternation, however spaced."""
    pattern = re.sub(r"[^\w\s()|]", lambda found: re.escape(found[0]), alternation)
    return re.compile(re.sub(r"\s+", r"\\s*", pattern))


class Corpus:
    """The guide's questions, their phrasings, and what is off its topic."""

    def __init__(self, path: Path) -> None:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        sets = data["sets"]
        self.refusal: str = data["refusal"]
        self.topics = [
            Topic(
                question=entry["question"],
                answer=entry["answer"],
                phrasings=[to_alternation(phrasing, sets) for phrasing in entry["phrasings"]],
                unseen=entry["unseen"],
            )
            for entry in data["topic"]
        ]
        off_topic = data["off_topic"]
        self.off_topic = Topic(
            question="",
            answer=self.refusal,
            phrasings=[to_alternation(p, off_topic["sets"]) for p in off_topic["phrasings"]],
            unseen=off_topic["unseen"],
        )

    @cached_property
    def foreign_words(self) -> list[str]:
        """Words that only off-topic phrasings use, sorted."""
        own = {word for t in self.topics for p in t.phrasings for word in re.findall(r"\w+", p)}
        foreign = {word for p in self.off_topic.phrasings for word in re.findall(r"\w+", p)}
        return sorted(foreign - own)

    def leaks(self) -> list[str]:
        """Held-out questions that some training phrasing could produce."""
        topics = [*self.topics, self.off_topic]
        patterns = [pattern_of(phrasing) for topic in topics for phrasing in topic.phrasings]
        unseen = {
            text: text.lower().rstrip("?!.").replace("'", "")
            for topic in topics
            for text in topic.unseen
        }
        return [
            text
            for text, plain in unseen.items()
            if any(pattern.fullmatch(plain) for pattern in patterns)
        ]

    def phrasings(self, each: int, seed: int) -> Iterator[tuple[str, str]]:
        """Yields up to `each` distinct, unaltered training phrasings per topic with its answer."""
        rng = random.Random(seed)
        for topic in self.topics:
            texts = {expand(rng.choice(topic.phrasings), rng) for _ in range(each)}
            for text in sorted(texts):
                yield text, topic.answer

    def examples(self, seed: int, off_topic_share: float) -> Iterator[tuple[str, str]]:
        """Yields question and answer for ever; each topic equally often, questions disturbed."""
        rng = random.Random(seed)
        while True:
            for topic in rng.sample(self.topics, len(self.topics)):
                yield self._question(topic, rng), topic.answer
                if rng.random() < off_topic_share / (1 - off_topic_share):
                    yield self._foreign_question(rng), self.refusal

    def _question(self, topic: Topic, rng: random.Random) -> str:
        if rng.random() < 0.1:
            text = topic.question
        else:
            text = expand(rng.choice(topic.phrasings), rng)
        if rng.random() < 0.3:
            text = text.replace("tabagent", rng.choice(PRODUCT))
        return disturb(text, rng)

    def _foreign_question(self, rng: random.Random) -> str:
        if rng.random() < 0.1:
            return " ".join(rng.choices(self.foreign_words, k=rng.randint(1, 6)))
        return disturb(expand(rng.choice(self.off_topic.phrasings), rng), rng)


def disturb(text: str, rng: random.Random) -> str:
    """Adds an opening or closing, drops and swaps words and mistypes some, each only at times."""
    words = text.split()
    if rng.random() < 0.3 and len(words) > 2:
        kept = [word for word in words if word.lower() not in FILLERS or rng.random() < 0.6]
        words = kept if kept else words
    if rng.random() < 0.12 and len(words) > 2:
        at = rng.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    if rng.random() < 0.05 and len(words) > 3:
        rng.shuffle(words)
    if rng.random() < 0.15:
        at = rng.randrange(len(words))
        words[at] = mistype(words[at], rng)
    if rng.random() < 0.25:
        words.insert(0, rng.choice(OPENINGS))
    if rng.random() < 0.12:
        words.append(rng.choice(CLOSINGS))
    return " ".join(words)


def mistype(word: str, rng: random.Random) -> str:
    """Drops, doubles, swaps or replaces one letter of a word of four letters or more."""
    if len(word) < 4:
        return word
    at = rng.randrange(len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    if kind == 2:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + rng.choice(LETTERS) + word[at + 1 :]
