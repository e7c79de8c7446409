"""OpenAI's chat completions: the body, the chunks of a stream, and the whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct, UnsetType

from tabagent.core.requests import GenerateRequest, Message

from .answer_fields import TokenLogprobObject, token_logprobs
from .completion_exchange import (
    CompletionAnswer,
    CompletionChoice,
    CompletionExchange,
    CompletionFields,
)
from .request_fields import ContentPart, text_of
from .wire import decode, invalid, new_id, not_supported, renamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tabagent.core.events import TokenLogprob
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


class ChatRequest(CompletionFields, kw_only=True):
    """Body of `POST /v1/chat/completions`. Unknown fields are ignored."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
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


class ChatChoice(CompletionChoice, kw_only=True):
    """The answer and why it ended."""

    message: AnswerMessage


class ChatCompletion(CompletionAnswer, kw_only=True):
    """The whole answer."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(CompletionChoice, kw_only=True):
    """One step of the answer."""

    delta: Delta


class ChatChunk(CompletionAnswer, kw_only=True):
    """One event of a stream."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChunkChoice]


class ChatProtocol(CompletionExchange):
    """One `POST /v1/chat/completions`."""

    name = "chat"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal, ChatRequest(messages=[]))
        self._id = new_id("chatcmpl-")

    def _read(self, body: str | bytes) -> GenerateRequest:
        self._body = fields = decode(body, ChatRequest)
        self.stream = bool(fields.stream)
        return _request(fields, self._id, self.principal)

    def _first_chunk(self) -> ChatChunk:
        return self._event(Delta(role="assistant", content=""))

    def _chunk(self, text: str | None) -> ChatChunk:
        return self._event(Delta(content=UNSET if text is None else text))

    def _event(self, delta: Delta) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self.created,
            model=self._model,
            choices=[ChunkChoice(delta=delta)],
            usage=self._usage,
        )

    def _whole(self, text: str) -> ChatCompletion:
        return ChatCompletion(
            id=self._id,
            created=self.created,
            model=self._model,
            choices=[ChatChoice(message=AnswerMessage(text))],
        )

    def _logprobs_object(self, logprobs: Sequence[TokenLogprob]) -> ChatLogprobs | None:
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
