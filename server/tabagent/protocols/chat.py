"""OpenAI's chat completions: the body, the chunks of a stream, and the whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct, UnsetType

from tabagent.core.requests import GenerateRequest, Message

from .answer_fields import (
    TimingsObject,
    TokenLogprobObject,
    UsageObject,
    timings_object,
    token_logprobs,
    usage_object,
)
from .exchange import FINGERPRINT, CompletionExchange
from .request_fields import ContentPart, GenerationFields, StreamOptions, text_of
from .wire import decode, encode, invalid, new_id, not_supported, renamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tabagent.core.events import Finished, TextDelta, TokenLogprob
    from tabagent.core.requests import Principal

__all__ = [
    "ChatChunk",
    "ChatCompletion",
    "ChatMessage",
    "ChatProtocol",
    "ChatRequest",
    "chat_message",
]


class ChatMessage(Struct, kw_only=True):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None


class ResponseFormat(Struct):
    """The form that the answer must have; only `text` is supported."""

    type: str


class ChatRequest(GenerationFields, kw_only=True):
    """Body of `POST /v1/chat/completions`. Unknown fields are ignored."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None


class ChatLogprobs(Struct):
    """One entry per token of the answer."""

    content: list[TokenLogprobObject]
    refusal: None = None


class AnswerMessage(Struct):
    """The answer."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(Struct, kw_only=True):
    """The answer and why it ended."""

    index: int = 0
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str
    token_ids: list[int] | UnsetType = UNSET


class ChatCompletion(Struct, kw_only=True):
    """The whole answer; `seed`, `timings` and the token ids are extensions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageObject
    system_fingerprint: str = FINGERPRINT
    seed: int | None = None
    timings: TimingsObject


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    """One step of the answer."""

    index: int = 0
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    token_ids: list[int] | UnsetType = UNSET


class ChatChunk(Struct, kw_only=True):
    """One event of a stream; `seed` comes with the first one, `timings` with the last choice."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str = FINGERPRINT
    usage: UsageObject | UnsetType | None = UNSET
    seed: int | UnsetType | None = UNSET
    timings: TimingsObject | UnsetType = UNSET


class ChatProtocol(CompletionExchange):
    """One `POST /v1/chat/completions`."""

    name = "chat"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self._id = new_id("chatcmpl-")
        self._body = ChatRequest(messages=[])
        self._delta_frame = ("", "")

    def _read(self, body: str | bytes) -> GenerateRequest:
        self._body = body_fields = decode(body, ChatRequest)
        self.stream = bool(body_fields.stream)
        return _request(body_fields, self._id, self.principal)

    def _opening(self) -> list[str]:
        before, _, after = encode(self._chunk(Delta(content=_PLACEHOLDER))).partition(
            encode(_PLACEHOLDER)
        )
        self._delta_frame = before, after
        chunk = self._chunk(Delta(role="assistant", content=""))
        chunk.seed = self._seed
        return [encode(chunk)]

    def _delta(self, event: TextDelta) -> list[str]:
        if event.logprobs or self._body.return_token_ids:
            chunk = self._chunk(Delta(content=event.text))
            chunk.choices[0].logprobs = _logprobs(event.logprobs)
            if self._body.return_token_ids:
                chunk.choices[0].token_ids = list(event.tokens)
            return [encode(chunk)]
        if not event.text:
            return []
        before, after = self._delta_frame
        return [before + encode(event.text) + after]

    def _closing(self, event: Finished) -> list[str]:
        last = self._chunk(Delta())
        last.choices[0].finish_reason = event.reason.value
        last.seed = self._seed
        last.timings = timings_object(event)
        if not self._include_usage:
            return [encode(last)]
        usage = self._chunk(Delta())
        usage.choices = []
        usage.usage = usage_object(event.usage)
        return [encode(last), encode(usage)]

    def _whole(self, event: Finished) -> str:
        choice = ChatChoice(
            message=AnswerMessage("".join(self._texts)),
            logprobs=_logprobs(self._logprobs) if self._body.logprobs else None,
            finish_reason=event.reason.value,
            token_ids=self._tokens if self._body.return_token_ids else UNSET,
        )
        return encode(
            ChatCompletion(
                id=self._id,
                created=self.created,
                model=self._model,
                choices=[choice],
                usage=usage_object(event.usage),
                seed=self._seed,
                timings=timings_object(event),
            )
        )

    @property
    def _include_usage(self) -> bool:
        options = self._body.stream_options
        return options is not None and bool(options.include_usage)

    def _chunk(self, delta: Delta) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self.created,
            model=self._model,
            choices=[ChunkChoice(delta=delta)],
            usage=None if self._include_usage else UNSET,
        )


_PLACEHOLDER = "\0"
"""Marks, in a chunk encoded once, the place of the text; no id or model name has it."""


def _logprobs(logprobs: Sequence[TokenLogprob]) -> ChatLogprobs | None:
    return ChatLogprobs(token_logprobs(logprobs)) if logprobs else None


def _request(body: ChatRequest, request_id: str, principal: Principal) -> GenerateRequest:
    """Return what the body asks for.

    :raises RequestError: `invalid_parameter` or `not_supported`, the field in `param`.
    """
    _refuse_unsupported(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "this needs logprobs to be true")
    limit = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    with renamed(max_tokens=limit, logprobs="top_logprobs"):
        return GenerateRequest(
            request_id=request_id,
            model=body.model,
            messages=tuple(
                chat_message(message, f"messages[{index}]")
                for index, message in enumerate(body.messages)
            ),
            max_tokens=getattr(body, limit),
            stop=body.stop_strings(),
            sampling=body.sampling(),
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            principal=principal,
        )


def _refuse_unsupported(body: ChatRequest) -> None:
    if body.n not in (None, 1):
        raise invalid("n", "only one answer per request is given")
    if body.tools or body.functions:
        raise not_supported("tools" if body.tools else "functions", "tool calls are not supported")
    if body.response_format is not None and body.response_format.type != "text":
        raise not_supported(
            "response_format", f"{body.response_format.type!r} is not supported, only 'text'"
        )
    if body.modalities and body.modalities != ["text"]:
        raise not_supported("modalities", "only text is supported")


def chat_message(message: ChatMessage, place: str) -> Message:
    """Return a turn of the wire as one of the domain; errors blame `place`.

    :raises RequestError: `not_supported` for tool calls and for content that is no text.
    """
    if message.role in ("tool", "function") or message.tool_calls:
        raise not_supported(place, "tool calls are not supported")
    role = "system" if message.role == "developer" else message.role
    content = text_of(message.content, f"{place}.content")
    return Message(role, content, UNSET if message.name is None else message.name)
