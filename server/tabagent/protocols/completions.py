"""OpenAI's legacy text completions: the body, the chunks of a stream, and the whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import UNSET, Struct, UnsetType

from tabagent.core.requests import GenerateRequest

from .answer_fields import MIN_LOGPROB, token_text
from .completion_exchange import (
    CompletionAnswer,
    CompletionChoice,
    CompletionExchange,
    CompletionFields,
)
from .wire import decode, invalid, new_id, not_supported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tabagent.core.events import Logprob, TokenLogprob
    from tabagent.core.requests import Principal

__all__ = ["CompletionRequest", "CompletionsProtocol", "TextCompletion"]


class CompletionRequest(CompletionFields, kw_only=True):
    """Body of `POST /v1/completions`. Unknown fields are ignored.

    `prompt` is one prompt, as text or as token ids; a list that holds one prompt is taken too.
    `return_tokens_as_token_ids` writes the tokens of `logprobs` as `token_id:N`, as in vLLM: of
    tokens with equal text, such as halves of characters, each then has an entry of its own.
    """

    prompt: str | list[int | str | list[int]]
    max_tokens: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: int | None = None
    return_tokens_as_token_ids: bool | None = None


class CompletionLogprobs(Struct):
    """Parallel lists, one entry per token; offsets count characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(CompletionChoice, kw_only=True):
    """The text and why it ended; a chunk has the text since the chunk before."""

    text: str
    prompt_token_ids: list[int] | UnsetType | None = UNSET


class TextCompletion(CompletionAnswer, kw_only=True):
    """The whole answer, or one event of a stream."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[TextChoice]


class CompletionsProtocol(CompletionExchange):
    """One `POST /v1/completions`."""

    name = "completions"
    _body: CompletionRequest

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal, CompletionRequest(prompt=""))
        self._id = new_id("cmpl-")
        self._prompt: str | tuple[int, ...] = ""
        self._offset = 0

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

    def _first_chunk(self) -> TextCompletion:
        first = self._chunk(None)
        if self._body.return_token_ids:
            first.choices[0].token_ids = []
            first.choices[0].prompt_token_ids = self._prompt_token_ids
        return first

    def _chunk(self, text: str | None) -> TextCompletion:
        return TextCompletion(
            id=self._id,
            created=self.created,
            model=self._model,
            choices=[TextChoice(text=text or "")],
            usage=self._usage,
        )

    def _whole(self, text: str) -> TextCompletion:
        whole = self._chunk(text)
        if self._body.return_token_ids:
            whole.choices[0].prompt_token_ids = self._prompt_token_ids
        return whole

    @property
    def _prompt_token_ids(self) -> list[int] | None:
        """The prompt's ids; a backend without a vocabulary has only those that were given."""
        ids = self._prompt_ids if isinstance(self._prompt, str) else self._prompt
        return None if ids is None else list(ids)

    def _logprobs_object(self, logprobs: Sequence[TokenLogprob]) -> CompletionLogprobs | None:
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
