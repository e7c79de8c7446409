"""What an engine has done since it started, and what it is doing: the numbers behind metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from .events import Finished

if TYPE_CHECKING:
    from .events import Failed

__all__ = ["Counters", "ModelActivity"]


class Counters:
    """Totals over all requests that have ended.

    Attributes:
        requests: How many, by finish reason, or by error code for those that failed.
        prompt_tokens: Tokens of their prompts.
        cached_tokens: Of these, tokens that were not read again.
        completion_tokens: Tokens of their answers.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0

    def add(self, end: Finished | Failed) -> None:
        """Count a request by its terminal event."""
        if isinstance(end, Finished):
            self.requests[end.reason.value] += 1
            self.prompt_tokens += end.usage.prompt_tokens
            self.cached_tokens += end.usage.cached_tokens
            self.completion_tokens += end.usage.completion_tokens
        else:
            self.requests[end.error.code] += 1


class ModelActivity(Struct, frozen=True):
    """Requests of one model that are decoded, and that wait."""

    model: str
    running: int
    queued: int
