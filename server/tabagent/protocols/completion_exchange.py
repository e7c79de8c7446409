"""What chat completions and text completions have in common: events, chunks, and their end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType

from tabagent import __version__
from tabagent.core.events import Failed, Finished, Started, TextDelta

from .answer_fields import TimingsObject, UsageObject, timings_object, usage_object
from .exchange import Exchange
from .request_fields import GenerationFields
from .wire import encode

if TYPE_CHECKING:
    from tabagent.core.events import Event, TokenLogprob
    from tabagent.core.requests import Principal

__all__ = [
    "CompletionAnswer",
    "CompletionChoice",
    "CompletionExchange",
    "CompletionFields",
    "StreamOptions",
]


class StreamOptions(Struct):
    """What a stream of a completion carries besides the answer."""

    include_usage: bool | None = None


class CompletionFields(GenerationFields, kw_only=True):
    """Fields that both kinds take."""

    n: int | None = None
    stream_options: StreamOptions | None = None


class CompletionChoice(Struct, kw_only=True):
    """The answer, or what a chunk adds to it, and why it ended."""

    index: int = 0
    logprobs: Struct | None = None
    finish_reason: str | None = None
    token_ids: list[int] | UnsetType = UNSET


class CompletionAnswer(Struct, kw_only=True):
    """The whole answer, or one event of a stream; `seed` and `timings` are extensions.

    In a stream `seed` comes with the first event and the last, `timings` with the last choice.
    """

    id: str
    created: int
    model: str
    choices: Sequence[CompletionChoice]
    system_fingerprint: str = f"tabagent-{__version__}"
    usage: UsageObject | UnsetType | None = UNSET
    seed: int | UnsetType | None = UNSET
    timings: TimingsObject | UnsetType = UNSET


class CompletionExchange(Exchange):
    """One completion.

    A stream is an opening, a chunk per delta, and a closing; without one, the deltas are kept
    for the whole answer.
    """

    end_of_stream = "data: [DONE]\n\n"

    def __init__(self, principal: Principal, body: CompletionFields) -> None:
        """Begin; `body` stands for what is received."""
        super().__init__(principal)
        self._body = body
        self._model = ""
        self._seed: int | None = None
        self._prompt_ids: tuple[int, ...] | None = None
        self._opened = False
        self._delta_frame = ("", "")
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._finished: Finished | None = None

    def send_event(self, event: Event) -> None:
        """Take one event of the request."""
        if isinstance(event, TextDelta):
            if self.stream:
                self._open()
                self._messages += self._delta(event)
            else:
                self._texts.append(event.text)
                self._tokens += event.tokens
                self._logprobs += event.logprobs
        elif isinstance(event, Started):
            self._model, self._seed, self._prompt_ids = event.model, event.seed, event.prompt
            self._open()
        elif isinstance(event, Finished):
            self._open()
            self._finished = event
            if self.stream:
                self._messages += self._closing(event)
        elif isinstance(event, Failed):
            self._fail(event.error)

    def answer(self) -> str:
        """Return the whole answer as JSON text, once the request is finished."""
        if self._finished is None:
            raise RuntimeError("the request is not finished")
        answer = self._whole("".join(self._texts))
        answer.choices[0].logprobs = self._logprobs_object(self._logprobs)
        answer.choices[0].finish_reason = self._finished.reason.value
        if self._body.return_token_ids:
            answer.choices[0].token_ids = self._tokens
        answer.usage = usage_object(self._finished.usage)
        answer.seed = self._seed
        answer.timings = timings_object(self._finished)
        return encode(answer)

    @abstractmethod
    def _first_chunk(self) -> CompletionAnswer:
        """Return what begins a stream."""

    @abstractmethod
    def _chunk(self, text: str | None) -> CompletionAnswer:
        """Return an event with one choice, which adds `text`."""

    @abstractmethod
    def _whole(self, text: str) -> CompletionAnswer:
        """Return the answer of a request without a stream."""

    @abstractmethod
    def _logprobs_object(self, logprobs: Sequence[TokenLogprob]) -> Struct | None:
        """Return the log-probabilities as the dialect shows them, if they were asked for."""

    @property
    def _include_usage(self) -> bool:
        options = self._body.stream_options
        return options is not None and bool(options.include_usage)

    @property
    def _usage(self) -> UnsetType | None:
        """What the events before the last say of the usage."""
        return None if self._include_usage else UNSET

    def _open(self) -> None:
        if not self.stream or self._opened:
            return
        self._opened = True
        before, _, after = encode(self._chunk(_PLACEHOLDER)).partition(encode(_PLACEHOLDER))
        self._delta_frame = before, after
        first = self._first_chunk()
        first.seed = self._seed
        self._messages.append(encode(first))

    def _delta(self, event: TextDelta) -> list[str]:
        if event.logprobs or self._body.return_token_ids:
            chunk = self._chunk(event.text)
            chunk.choices[0].logprobs = self._logprobs_object(event.logprobs)
            if self._body.return_token_ids:
                chunk.choices[0].token_ids = list(event.tokens)
            return [encode(chunk)]
        if not event.text:
            return []
        before, after = self._delta_frame
        return [before + encode(event.text) + after]

    def _closing(self, event: Finished) -> list[str]:
        last = self._chunk(None)
        last.choices[0].finish_reason = event.reason.value
        last.seed = self._seed
        last.timings = timings_object(event)
        if not self._include_usage:
            return [encode(last)]
        usage = self._chunk(None)
        usage.choices = []
        usage.usage = usage_object(event.usage)
        return [encode(last), encode(usage)]


_PLACEHOLDER = "\0"
"""Marks, in a chunk encoded once, the place of the text; no id or model name has it."""
