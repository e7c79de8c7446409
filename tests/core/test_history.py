"""A conversation that is too long loses its oldest turns, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.history import history_limit, newest_turns
from tabagent.core.requests import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLES = st.sampled_from(["system", "user", "assistant"])
TURNS = st.lists(st.builds(Message, ROLES, st.text(max_size=9)), max_size=12)


def size(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)


@given(TURNS, st.integers(0, 60))
def test_what_is_kept_is_the_longest_end_that_fits(messages: list[Message], limit: int) -> None:
    kept = list(newest_turns(messages, lambda some: size(some) <= limit))
    system = [message for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    starts = [start for start, turn in enumerate(turns) if start and turn.role == "user"]
    shorter = [[*system, *turns[start:]] for start in starts]
    fitting = [some for some in [messages, *shorter] if size(some) <= limit]
    assert kept == (fitting[0] if fitting else [messages, *shorter][-1])


@pytest.mark.parametrize(
    ("max_tokens", "limit"), [(8, 92), (25, 75), (1000, 75), (None, 75), (0, 99)]
)
def test_an_answer_has_room_up_to_a_quarter(max_tokens: int | None, limit: int) -> None:
    assert history_limit(100, max_tokens) == limit
