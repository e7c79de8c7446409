"""The embedded guide answers what it was taught, through the real engine."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tabagent_engine import GGUFHandler, inspect_gguf, render_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[[Any], str]

GUIDE = Path(str(files("tabagent_backends") / "guide" / "tabagent-guide.gguf"))
KNOWN = tomllib.loads(GUIDE.with_name("questions.toml").read_text(encoding="utf-8"))
TOPICS = KNOWN["topic"]
REFUSAL = KNOWN["refusal"]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Ask a question, or a list of messages, with the sampling the file itself asks for."""
    template = inspect_gguf(GUIDE)["metadata"]["tokenizer.chat_template"]
    # The network is too small to gain from a second thread.
    with GGUFHandler(None, GUIDE, threads=1) as guide:

        def answer(question: Any) -> str:
            user = {"role": "user", "content": question}
            messages = [user] if isinstance(question, str) else question
            return guide.generate(render_template(str(template), messages), max_tokens=96)

        yield answer


def test_the_file_is_a_small_llama() -> None:
    assert GUIDE.stat().st_size <= 5_000_000
    assert inspect_gguf(GUIDE)["architecture"] == "llama"


def test_every_question_gets_its_answer_word_for_word(ask: Ask) -> None:
    answers = {topic["question"]: topic["answer"] for topic in TOPICS}
    assert {question: ask(question) for question in answers} == answers


def test_most_paraphrases_it_never_saw_get_the_right_answer(ask: Ask) -> None:
    asked = [(text, topic["answer"]) for topic in TOPICS for text in topic["unseen"]]
    wrong = [text for text, answer in asked if ask(text) != answer]
    assert len(wrong) <= 0.15 * len(asked), wrong


def test_most_questions_off_its_topic_are_refused(ask: Ask) -> None:
    asked = KNOWN["off_topic"]["unseen"]
    answered = [text for text in asked if ask(text) != REFUSAL]
    assert len(answered) <= 0.2 * len(asked), answered


def test_case_punctuation_and_line_breaks_do_not_matter(ask: Ask) -> None:
    assert ask("  HOW do I\nconnect -- from an extension ...") == ask(
        "How do I connect from an extension?"
    )


def test_only_the_last_user_turn_counts(ask: Ask) -> None:
    turns = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "Where are the logs?"},
        {"role": "assistant", "content": "On stderr."},
        {"role": "user", "content": [{"type": "text", "text": "What is TabAgent?"}]},
    ]
    assert ask(turns) == ask("What is TabAgent?")
