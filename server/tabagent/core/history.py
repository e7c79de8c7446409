"""Shortens a conversation that is too long for its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .requests import Message

__all__ = ["history_limit", "newest_turns"]


def history_limit(context_length: int, max_tokens: int | None) -> int:
    """Return the tokens that a prompt may have so that an answer of `max_tokens` follows.

    A long answer may have to make do with a quarter of the context.
    """
    quarter = context_length // 4
    return context_length - max(1, quarter if max_tokens is None else min(quarter, max_tokens))


def newest_turns(
    messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]
) -> Sequence[Message]:
    """Drop the oldest turns until the rest fits; the system messages and the last turn stay.

    A turn is a message of the user and what follows it: templates insist on the user's coming
    first.
    """
    if fits(messages):
        return messages
    system = [message for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    shortened: Sequence[Message] = messages
    for start in range(1, len(turns)):
        if turns[start].role == "user":
            shortened = [*system, *turns[start:]]
            if fits(shortened):
                break
    return shortened
