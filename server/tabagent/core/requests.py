"""What a peer may ask for, checked before any backend sees it."""

from __future__ import annotations

import math
from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType

from .errors import AccessError, RequestError
from .protocol import AnswerWriter

__all__ = [
    "LOCAL",
    "MAX_LOGPROBS",
    "MAX_STOP_STRINGS",
    "CancelRecorded",
    "CancelRequest",
    "DeleteModel",
    "DescribeSystem",
    "GenerateRequest",
    "ListModels",
    "LoadModel",
    "Message",
    "Principal",
    "PullModel",
    "RecordRequest",
    "Request",
    "ResumeRequest",
    "SamplingParams",
    "UnloadModel",
]

MAX_LOGPROBS = 20
"""Alternatives reported per token of any answer."""
MAX_ALTERNATIVES = 2**20
"""Alternatives of a whole answer that reports more per token, up to the whole vocabulary."""
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_LOGIT_BIAS = 1024
MAX_INT = 2**31 - 1


def _invalid(param: str, message: str) -> RequestError:
    return RequestError("invalid_parameter", f"{param}: {message}", param=param)


def _check_range(param: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise _invalid(param, f"must be between {low:g} and {high:g}")


class Principal(Struct, frozen=True):
    """Who asks: what a credential or an origin stands for, and what it may do.

    Attributes:
        expires_at: When its credential expires, in Unix seconds; None for one that does not.
    """

    id: str
    scopes: frozenset[str] = frozenset({"infer"})
    expires_at: float | None = None

    def require(self, scope: str) -> None:
        """Raise `AccessError` (`scope_required`) unless `scope` is held."""
        if scope not in self.scopes:
            raise AccessError("scope_required", f"this needs the scope {scope!r}")


LOCAL = Principal("local", frozenset({"infer", "manage"}))
"""Local software: the command line, and callers on loopback that are no web page."""


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation, as chat templates expect it."""

    role: str
    content: str
    name: str | UnsetType = UNSET


class SamplingParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are chosen. A field that is None takes the model's default.

    Raises `RequestError` (`invalid_parameter`, the field in `param`) for numbers that are not
    finite or out of range.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[int, float] | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        _check_range("temperature", self.temperature, 0.0, 100.0)
        _check_range("top_k", self.top_k, 0, MAX_INT)
        _check_range("top_p", self.top_p, 0.0, 1.0)
        _check_range("min_p", self.min_p, 0.0, 1.0)
        _check_range("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _check_range("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _check_range("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _check_range("seed", self.seed, 0, 2**64 - 1)
        if self.logit_bias is not None:
            if len(self.logit_bias) > MAX_LOGIT_BIAS:
                raise _invalid("logit_bias", f"at most {MAX_LOGIT_BIAS} tokens can be biased")
            for token, bias in self.logit_bias.items():
                _check_range("logit_bias", token, 0, MAX_INT)
                _check_range("logit_bias", bias, -1000.0, 1000.0)


class GenerateRequest(Struct, frozen=True, kw_only=True):
    """Continue a prompt: exactly one of `prompt` (text or token ids) and `messages` is given.

    Attributes:
        request_id: Unique while the request lives; every event carries it.
        model: None means the first loaded model.
        truncate: Drop the oldest turns of `messages` until they leave room for an answer, instead
            of failing; system messages and the last turn stay.
        max_tokens: None means to the end of the context; 0 reads the prompt only.
        logprobs: Alternatives to report per token; None reports no log-probabilities. More than
            `MAX_LOGPROBS` need a `max_tokens` that keeps them within `MAX_ALTERNATIVES`.
        return_prompt: Report the prompt's token ids.
        principal: Whose request this is; caches and stored responses are private to it.
    """

    request_id: str
    model: str | None = None
    prompt: str | tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None
    truncate: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    logprobs: int | None = None
    return_prompt: bool = False
    principal: Principal = LOCAL

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise _invalid("prompt", "give either a prompt or messages")
        if self.messages is not None and not self.messages:
            raise _invalid("messages", "there must be at least one message")
        if isinstance(self.prompt, tuple):
            for token in self.prompt:
                _check_range("prompt", token, 0, MAX_INT)
        _check_range("max_tokens", self.max_tokens, 0, MAX_INT)
        _check_range("logprobs", self.logprobs, 0, self._most_logprobs)
        if len(self.stop) > MAX_STOP_STRINGS:
            raise _invalid("stop", f"at most {MAX_STOP_STRINGS} stop strings are taken")
        for text in self.stop:
            if not text or len(text) > MAX_STOP_CHARS:
                raise _invalid("stop", f"a stop string has 1 to {MAX_STOP_CHARS} characters")

    @property
    def _most_logprobs(self) -> int:
        if self.max_tokens is None:
            return MAX_LOGPROBS
        return max(MAX_LOGPROBS, MAX_ALTERNATIVES // max(self.max_tokens, 1))


class CancelRequest(Struct, frozen=True):
    """End a running request; unknown ids are ignored."""

    request_id: str


class ListModels(Struct, frozen=True):
    """Report every known model and its state."""

    request_id: str


class DescribeSystem(Struct, frozen=True):
    """Report what the server runs on."""

    request_id: str


class LoadModel(Struct, frozen=True):
    """Load a known model."""

    request_id: str
    model: str


class UnloadModel(Struct, frozen=True):
    """Unload a model; its running requests are cancelled."""

    request_id: str
    model: str


class PullModel(Struct, frozen=True):
    """Download the model that a reference means; `CancelRequest` ends it."""

    request_id: str
    reference: str


class DeleteModel(Struct, frozen=True):
    """Unload a model and delete its files."""

    request_id: str
    model: str


class RecordRequest(Struct, frozen=True):
    """Carry out `request` so that it outlives its connection; `writer` writes its log."""

    request: GenerateRequest
    writer: AnswerWriter


class ResumeRequest(Struct, frozen=True):
    """Report the messages of the recorded response `request_id` that follow number `after`."""

    request_id: str
    after: int


class CancelRecorded(Struct, frozen=True):
    """End a recorded response that another connection asked for."""

    request_id: str


Request: TypeAlias = (
    GenerateRequest
    | CancelRequest
    | ListModels
    | DescribeSystem
    | LoadModel
    | UnloadModel
    | PullModel
    | DeleteModel
    | RecordRequest
    | ResumeRequest
    | CancelRecorded
)
