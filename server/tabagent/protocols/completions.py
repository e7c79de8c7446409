"""OpenAI's legacy text completions: the body, the chunks of a stream, and the whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import UNSET, Struct, UnsetType

from tabagent.core.requests import GenerateRequest

from .answer_fields import (
    MIN_LOGPROB,
    TimingsObject,
    UsageObject,
    timings_object,
    token_text,
    usage_object,
)
from .exchange import FINGERPRINT, CompletionExchange
from .request_fields import GenerationFields, StreamOptions
from .wire import decode, encode, invalid, new_id, not_supported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tabagent.core.events import Finished, Logprob, TextDelta, TokenLogprob
    from tabagent.core.requests import Principal

__all__ = ["CompletionRequest", "CompletionsProtocol", "TextCompletion"]


class CompletionRequest(GenerationFields, kw_only=True):
    """Body of `POST /v1/completions`. Unknown fields are ignored.

    `prompt` is one prompt, as text or as token ids; a list that holds one prompt is taken too.
    `return_tokens_as_token_ids` writes the tokens of `logprobs` as `token_id:N`, as in vLLM: of
    tokens with equal text, such as halves of characters, each then has an entry of its own.
    """

    prompt: str | list[int | str | list[int]]
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: int | None = None
    return_tokens_as_token_ids: bool | None = None
    stream_options: StreamOptions | None = None


class CompletionLogprobs(Struct):
    """Parallel lists, one entry per token; offsets count characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Struct, kw_only=True):
    """The text and why it ended; a chunk has the text since the chunk before."""

    index: int = 0
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    token_ids: list[int] | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType | None = UNSET


class TextCompletion(Struct, kw_only=True):
    """The whole answer, or one event of a stream; `seed` and `timings` are extensions."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str = FINGERPRINT
    usage: UsageObject | UnsetType | None = UNSET
    seed: int | UnsetType | None = UNSET
    timings: TimingsObject | UnsetType = UNSET


class CompletionsProtocol(CompletionExchange):
    """One `POST /v1/completions`."""

    name = "completions"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self._id = new_id("cmpl-")
        self._body = CompletionRequest(prompt="")
        self._prompt: str | tuple[int, ...] = ""
        self._offset = 0
        self._delta_frame = ("", "")

    def _read(self, body: str | bytes) -> GenerateRequest:
        self._body = fields = decode(body, CompletionRequest)
        self.stream = bool(fields.stream)
        _refuse_unsupported(fields)
        self._prompt = _one_prompt(fields.prompt)
        return GenerateRequest(
            request_id=self._id,
            model=fields.model,
            prompt=self._prompt,
            max_tokens=fields.max_tokens,
            stop=fields.stop_strings(),
            sampling=fields.sampling(),
            logprobs=fields.logprobs,
            return_prompt=bool(fields.return_token_ids),
            principal=self.principal,
        )

    def _opening(self) -> list[str]:
        before, _, after = encode(self._chunk(_PLACEHOLDER)).partition(encode(_PLACEHOLDER))
        self._delta_frame = before, after
        first = self._chunk("")
        first.seed = self._seed
        if self._body.return_token_ids:
            first.choices[0].token_ids = []
            first.choices[0].prompt_token_ids = self._prompt_token_ids
        return [encode(first)]

    def _delta(self, event: TextDelta) -> list[str]:
        if event.logprobs or self._body.return_token_ids:
            chunk = self._chunk(event.text)
            chunk.choices[0].logprobs = self._logprobs_of(event.logprobs)
            if self._body.return_token_ids:
                chunk.choices[0].token_ids = list(event.tokens)
            return [encode(chunk)]
        if not event.text:
            return []
        before, after = self._delta_frame
        return [before + encode(event.text) + after]

    def _closing(self, event: Finished) -> list[str]:
        last = self._chunk("")
        last.choices[0].finish_reason = event.reason.value
        last.seed = self._seed
        last.timings = timings_object(event)
        if not self._include_usage:
            return [encode(last)]
        usage = self._chunk("")
        usage.choices = []
        usage.usage = usage_object(event.usage)
        return [encode(last), encode(usage)]

    def _whole(self, event: Finished) -> str:
        with_ids = self._body.return_token_ids
        choice = CompletionChoice(
            text="".join(self._texts),
            logprobs=self._logprobs_of(self._logprobs),
            finish_reason=event.reason.value,
            token_ids=self._tokens if with_ids else UNSET,
            prompt_token_ids=self._prompt_token_ids if with_ids else UNSET,
        )
        answer = self._chunk("")
        answer.choices = [choice]
        answer.usage = usage_object(event.usage)
        answer.seed = self._seed
        answer.timings = timings_object(event)
        return encode(answer)

    @property
    def _include_usage(self) -> bool:
        options = self._body.stream_options
        return options is not None and bool(options.include_usage)

    @property
    def _prompt_token_ids(self) -> list[int] | None:
        """The prompt's ids; a backend without a vocabulary has only those that were given."""
        ids = self._prompt_ids if isinstance(self._prompt, str) else self._prompt
        return None if ids is None else list(ids)

    def _chunk(self, text: str) -> TextCompletion:
        return TextCompletion(
            id=self._id,
            created=self.created,
            model=self._model,
            choices=[CompletionChoice(text=text)],
            usage=None if self._include_usage else UNSET,
        )

    def _logprobs_of(self, logprobs: Iterable[TokenLogprob]) -> CompletionLogprobs | None:
        if self._body.logprobs is None:
            return None
        lists = CompletionLogprobs([], [], [], [])
        for entry in logprobs:
            lists.tokens.append(self._token(entry.chosen))
            lists.token_logprobs.append(max(entry.chosen.logprob, MIN_LOGPROB))
            best: dict[str, float] = {}
            for top in entry.top:  # of tokens with equal text the likeliest counts
                best.setdefault(self._token(top), max(top.logprob, MIN_LOGPROB))
            lists.top_logprobs.append(best)
            lists.text_offset.append(self._offset)
            self._offset += len(token_text(entry.chosen))
        return lists

    def _token(self, candidate: Logprob) -> str:
        by_id = self._body.return_tokens_as_token_ids
        return f"token_id:{candidate.token}" if by_id else token_text(candidate)


_PLACEHOLDER = "\0"
"""Marks, in a chunk encoded once, the place of the text; no id or model name has it."""


def _refuse_unsupported(body: CompletionRequest) -> None:
    if body.n not in (None, 1):
        raise invalid("n", "only one answer per request is given")
    if body.best_of not in (None, 1):
        raise invalid("best_of", "only one answer per request is made")
    if body.echo:
        raise not_supported("echo", "the prompt is not given back")
    if body.suffix:
        raise not_supported("suffix", "text is only continued, not inserted")


def _one_prompt(prompt: str | list[int | str | list[int]]) -> str | tuple[int, ...]:
    """Return the only prompt.

    :raises RequestError: `not_supported` for several prompts, `invalid_parameter` for none.
    """
    if isinstance(prompt, str):
        return prompt
    tokens = tuple(item for item in prompt if isinstance(item, int))
    if len(tokens) == len(prompt):
        if not tokens:
            raise invalid("prompt", "the list is empty")
        return tokens
    if tokens:
        raise invalid("prompt", "give either token ids or a text")
    if len(prompt) > 1:
        raise not_supported("prompt", "only one prompt per request is taken")
    only = prompt[0]
    return _one_prompt([*only]) if isinstance(only, list) else _one_prompt(str(only))
