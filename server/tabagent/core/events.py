"""What happens to a request, as a closed set of frozen events.

Laws, held by property tests for every backend:

1. Each request has exactly one terminal event (`Finished` or `Failed`) and nothing after it.
2. The texts of its deltas concatenate to the full answer.
3. Every text is whole UTF-8; a delta's text may be empty while characters are held back.
4. A cancelled request ends with `Finished(reason=cancelled)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from .errors import TabagentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TERMINAL_EVENTS",
    "DownloadProgress",
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "Logprob",
    "ModelState",
    "ModelStateChanged",
    "ModelStatus",
    "ModelsListed",
    "PromptProgress",
    "Queued",
    "ReasoningDelta",
    "Recorded",
    "RequestEvent",
    "Started",
    "SystemDescribed",
    "TextDelta",
    "Timings",
    "TokenLogprob",
    "ToolCallDelta",
    "Usage",
    "merge_deltas",
]


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"


class ModelState(StrEnum):
    """Where a model is in its life."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Usage(Struct, frozen=True):
    """Tokens a request used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


class Timings(Struct, frozen=True):
    """Where a request's time went, in milliseconds."""

    queued_ms: float = 0.0
    prompt_ms: float = 0.0
    decode_ms: float = 0.0


class Logprob(Struct, frozen=True):
    """One candidate token and its log-probability (natural logarithm)."""

    token: int
    bytes: bytes
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """The log-probability of a produced token and of the likeliest ones, best first."""

    chosen: Logprob
    top: tuple[Logprob, ...]


class RequestEvent(Struct, frozen=True):
    """Base of the events of one request."""

    request_id: str


class Queued(RequestEvent, frozen=True):
    """The request waits behind `position` others."""

    position: int


class Started(RequestEvent, frozen=True):
    """The request has a slot; its prompt is being read.

    `prompt` are the prompt's token ids, where they were asked for and the backend has any.
    """

    model: str
    prompt_tokens: int
    cached_tokens: int = 0
    seed: int | None = None
    prompt: tuple[int, ...] | None = None


class PromptProgress(RequestEvent, frozen=True):
    """`done` of `total` prompt tokens are read."""

    done: int
    total: int


class TextDelta(RequestEvent, frozen=True):
    """More of the answer, with the tokens it took and, when asked for, their logprobs."""

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(RequestEvent, frozen=True):
    """More of the model's reasoning, which is not part of the answer."""

    text: str
    tokens: tuple[int, ...] = ()


class ToolCallDelta(RequestEvent, frozen=True):
    """More of the `index`-th tool call; `id` and `name` come with its first delta."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


class Finished(RequestEvent, frozen=True):
    """The request is over."""

    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()


class Failed(RequestEvent, frozen=True):
    """The request failed."""

    error: TabagentError


class ModelStateChanged(Struct, frozen=True):
    """A model moved in its life; `progress` runs from 0 to 1 while it loads."""

    model: str
    state: ModelState
    progress: float = 0.0
    error: TabagentError | None = None


class ModelStatus(Struct, frozen=True):
    """One known model.

    `context_length` (tokens per request) and `device` are known once it is ready, `error` once it
    has failed.
    """

    id: str
    backend: str
    state: ModelState
    progress: float = 0.0
    error: TabagentError | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    created: int = 0
    device: str | None = None


class ModelsListed(RequestEvent, frozen=True):
    """Answers `ListModels` with every model, other requests about models with that one.

    `DeleteModel` is answered by none.
    """

    models: tuple[ModelStatus, ...]


class SystemDescribed(RequestEvent, frozen=True):
    """Answers `DescribeSystem`."""

    system: Mapping[str, Any]


class Recorded(RequestEvent, frozen=True):
    """More messages of a recorded response, as they stand in its log; `ended` with the last.

    Also answers `CancelRecorded`, without messages.
    """

    messages: tuple[str, ...]
    ended: bool


class DownloadProgress(RequestEvent, frozen=True):
    """`done` of a model's `total` bytes are there; `file` is the one that arrives."""

    file: str
    done: int
    total: int


Event: TypeAlias = (
    Queued
    | Started
    | PromptProgress
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | Finished
    | Failed
    | ModelsListed
    | Recorded
    | SystemDescribed
    | ModelStateChanged
    | DownloadProgress
)

TERMINAL_EVENTS: Final = (Finished, Failed)


def merge_deltas(events: Sequence[Event]) -> list[Event]:
    """Join runs of text deltas, and of reasoning deltas, of one request; keep all else as it is."""
    merged: list[Event] = []
    for (kind, request_id), group in groupby(events, _mergeable_as):
        run = list(group)
        if request_id is None or len(run) == 1:
            merged += run
            continue
        deltas = [delta for delta in run if isinstance(delta, TextDelta | ReasoningDelta)]
        text = "".join([delta.text for delta in deltas])
        tokens = tuple(chain.from_iterable([delta.tokens for delta in deltas]))
        if kind is ReasoningDelta:
            merged.append(ReasoningDelta(request_id, text, tokens))
        else:
            logprobs = [delta.logprobs for delta in deltas if isinstance(delta, TextDelta)]
            merged.append(TextDelta(request_id, text, tokens, tuple(chain.from_iterable(logprobs))))
    return merged


def _mergeable_as(event: Event) -> tuple[type[Event] | None, str | None]:
    """What neighbours must share with `event` to be joined with it; no request, no joining."""
    if isinstance(event, TextDelta | ReasoningDelta):
        return type(event), event.request_id
    return None, None
