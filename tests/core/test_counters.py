from __future__ import annotations

from tabagent.core.counters import Counters
from tabagent.core.errors import RequestError
from tabagent.core.events import Failed, Finished, FinishReason, Usage


def test_ended_requests_are_counted_by_how_they_ended_with_their_tokens() -> None:
    counters = Counters()
    counters.add(Finished("a", FinishReason.STOP, Usage(5, 3, 2)))
    counters.add(Finished("b", FinishReason.STOP, Usage(1, 1, 0)))
    counters.add(Failed("c", RequestError("overloaded", "later")))
    assert counters.requests == {"stop": 2, "overloaded": 1}
    assert (counters.prompt_tokens, counters.cached_tokens) == (6, 2)
    assert counters.completion_tokens == 4
