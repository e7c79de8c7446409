"""Joining deltas changes how events are cut, never what they say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.events import (
    Event,
    Logprob,
    ModelState,
    ModelStateChanged,
    PromptProgress,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    merge_deltas,
)

REQUESTS = st.sampled_from(["a", "b"])
TOKENS = st.lists(st.integers(0, 9), max_size=3).map(tuple)


def certain(token: int) -> TokenLogprob:
    return TokenLogprob(Logprob(token, b"", 0.0), ())


@st.composite
def text_deltas(draw: st.DrawFn) -> TextDelta:
    tokens = draw(TOKENS)
    logprobs = tuple(map(certain, tokens)) if draw(st.booleans()) else ()
    return TextDelta(draw(REQUESTS), draw(st.text(max_size=4)), tokens, logprobs)


EVENTS: st.SearchStrategy[list[Event]] = st.lists(
    st.one_of(
        text_deltas(),
        st.builds(ReasoningDelta, REQUESTS, st.text(max_size=4), TOKENS),
        st.builds(PromptProgress, REQUESTS, st.integers(0, 5), st.just(5)),
        st.just(ModelStateChanged("m", ModelState.READY)),
    )
)


def said(events: list[Event], kind: type[TextDelta | ReasoningDelta], request_id: str) -> object:
    deltas = [event for event in events if isinstance(event, kind)]
    deltas = [delta for delta in deltas if delta.request_id == request_id]
    logprobs = [e for delta in deltas if isinstance(delta, TextDelta) for e in delta.logprobs]
    tokens = [token for delta in deltas for token in delta.tokens]
    return "".join(delta.text for delta in deltas), tokens, logprobs


def joinable(event: Event) -> tuple[type[Event], str] | None:
    return (
        (type(event), event.request_id) if isinstance(event, TextDelta | ReasoningDelta) else None
    )


@given(EVENTS)
def test_text_tokens_and_logprobs_stay_the_same(events: list[Event]) -> None:
    merged = merge_deltas(events)
    for kind in (TextDelta, ReasoningDelta):
        for request_id in ("a", "b"):
            assert said(merged, kind, request_id) == said(events, kind, request_id)


@given(EVENTS)
def test_no_two_neighbours_are_left_to_join(events: list[Event]) -> None:
    kinds = [joinable(event) for event in merge_deltas(events)]
    assert all(one is None or one != other for one, other in pairwise(kinds))


@given(EVENTS)
def test_all_else_stays_in_its_place(events: list[Event]) -> None:
    def skeleton(events: list[Event]) -> list[object]:
        """The events with each run of joinable ones reduced to what they share."""
        reduced: list[object] = []
        for event in events:
            kind = joinable(event)
            if kind is None or not reduced or reduced[-1] != kind:
                reduced.append(kind or event)
        return reduced

    assert skeleton(merge_deltas(events)) == skeleton(events)


@given(EVENTS, st.integers(0, 20))
def test_it_does_not_matter_in_how_many_steps_events_are_joined(
    events: list[Event], cut: int
) -> None:
    in_two_steps = merge_deltas([*merge_deltas(events[:cut]), *merge_deltas(events[cut:])])
    assert in_two_steps == merge_deltas(events)
