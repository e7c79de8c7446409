"""Answer fields that several dialects share: log-probabilities, timings, models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from .wire import ErrorObject, error_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tabagent.core.events import Finished, Logprob, ModelStatus, TokenLogprob, Usage

__all__ = [
    "MIN_LOGPROB",
    "ModelObject",
    "TimingsObject",
    "TokenLogprobObject",
    "TopLogprobObject",
    "UsageObject",
    "model_object",
    "timings_object",
    "token_logprobs",
    "token_text",
    "usage_object",
]

MIN_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""


class TopLogprobObject(Struct):
    """A candidate token."""

    token: str
    logprob: float
    bytes: list[int]
    id: int


class TokenLogprobObject(Struct):
    """A produced token and the likeliest ones at its place, best first."""

    token: str
    logprob: float
    bytes: list[int]
    id: int
    top_logprobs: list[TopLogprobObject]


def token_text(candidate: Logprob) -> str:
    """Return a token as text; bytes that are no whole character become U+FFFD."""
    return candidate.bytes.decode(errors="replace")


def token_logprobs(logprobs: Iterable[TokenLogprob]) -> list[TokenLogprobObject]:
    """Return log-probabilities as chat completions and Responses write them."""
    return [
        TokenLogprobObject(
            token_text(entry.chosen),
            max(entry.chosen.logprob, MIN_LOGPROB),
            list(entry.chosen.bytes),
            entry.chosen.token,
            [
                TopLogprobObject(
                    token_text(top), max(top.logprob, MIN_LOGPROB), list(top.bytes), top.token
                )
                for top in entry.top
            ],
        )
        for entry in logprobs
    ]


class CachedTokens(Struct):
    """How many of the prompt's tokens were not read again."""

    cached_tokens: int


class UsageObject(Struct):
    """Tokens used, as both kinds of completion write it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


def usage_object(usage: Usage) -> UsageObject:
    """Return the wire object of a completion's usage."""
    return UsageObject(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        CachedTokens(usage.cached_tokens),
    )


class TimingsObject(Struct):
    """Where the time went, under llama-server's names; milliseconds and tokens per second."""

    queued_ms: float
    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float


def timings_object(event: Finished) -> TimingsObject:
    """Return the timings of a finished request."""
    usage, timings = event.usage, event.timings
    prompt_n = usage.prompt_tokens - usage.cached_tokens
    return TimingsObject(
        queued_ms=round(timings.queued_ms, 3),
        cache_n=usage.cached_tokens,
        prompt_n=prompt_n,
        prompt_ms=round(timings.prompt_ms, 3),
        prompt_per_second=_rate(prompt_n, timings.prompt_ms),
        predicted_n=usage.completion_tokens,
        predicted_ms=round(timings.decode_ms, 3),
        predicted_per_second=_rate(usage.completion_tokens, timings.decode_ms),
    )


def _rate(tokens: int, milliseconds: float) -> float:
    return round(tokens * 1000 / milliseconds, 3) if milliseconds > 0 else 0.0


class ModelObject(Struct, kw_only=True):
    """A model as `GET /v1/models` and `tabagent.model.list` show it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tabagent"
    backend: str
    state: str
    progress: float
    error: ErrorObject | None = None
    context_length: int | None = None
    size_bytes: int | None = None


def model_object(status: ModelStatus) -> ModelObject:
    """Return the wire object of a model."""
    return ModelObject(
        id=status.id,
        created=status.created,
        backend=status.backend,
        state=status.state.value,
        progress=status.progress,
        error=None if status.error is None else error_object(status.error),
        context_length=status.context_length,
        size_bytes=status.size_bytes,
    )
