"""The body of a Responses request, and its way into the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tabagent.core.requests import MAX_LOGPROBS, GenerateRequest, Message

from .request_fields import ContentPart, GenerationFields, text_of
from .response_objects import TextSettings  # noqa: TC001  # a Struct's fields are read at run time
from .wire import invalid, not_supported, renamed

if TYPE_CHECKING:
    from tabagent.core.requests import Principal

__all__ = ["InputItem", "ResponseRequest", "TabagentOptions", "generate_request"]

LOGPROBS = "message.output_text.logprobs"
MAX_STREAM_ID_CHARS = 128
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class InputItem(Struct, kw_only=True):
    """An item of the conversation; only messages are supported."""

    type: str = "message"
    role: str | None = None
    content: str | list[ContentPart] | None = None


class TabagentOptions(Struct):
    """Extensions: `events` asks for, or forbids, the `tabagent.*` events of a response."""

    events: bool | None = None
    resumable: bool | None = None


class ResponseRequest(GenerationFields, kw_only=True):
    """Body of `POST /v1/responses`, and of `response.create`. Unknown fields are ignored.

    `generate: false` reads the prompt only. `stream_id` names the lane of a duplex connection.
    """

    input: str | list[InputItem] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None
    text: TextSettings | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    truncation: str | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    user: str | None = None
    generate: bool | None = None
    stream_id: str | None = None
    tabagent: TabagentOptions | None = None


def generate_request(
    body: ResponseRequest, request_id: str, principal: Principal
) -> GenerateRequest:
    """Return what the body asks for.

    :raises RequestError: `invalid_parameter` or `not_supported`, the field in `param`.
    """
    _refuse_unsupported(body)
    if body.stream_id is not None and len(body.stream_id) > MAX_STREAM_ID_CHARS:
        raise invalid("stream_id", f"at most {MAX_STREAM_ID_CHARS} characters are taken")
    if body.top_logprobs is not None and not 0 <= body.top_logprobs <= MAX_LOGPROBS:
        raise invalid("top_logprobs", f"must be between 0 and {MAX_LOGPROBS}")
    wants_logprobs = LOGPROBS in (body.include or ())
    with renamed(max_tokens="max_output_tokens", messages="input"):
        return GenerateRequest(
            request_id=request_id,
            model=body.model,
            messages=_messages(body),
            truncate=body.truncation == "auto",
            max_tokens=0 if body.generate is False else body.max_output_tokens,
            stop=body.stop_strings(),
            sampling=body.sampling(),
            logprobs=(body.top_logprobs or 0) if wants_logprobs else None,
            principal=principal,
        )


def _refuse_unsupported(body: ResponseRequest) -> None:
    unsupported = {
        "background": (body.background, "responses in the background"),
        "conversation": (body.conversation, "stored conversations"),
        "previous_response_id": (body.previous_response_id, "stored responses"),
        "prompt": (body.prompt, "stored prompts"),
        "tools": (body.tools, "tool calls"),
    }
    for param, (value, feature) in unsupported.items():
        if value:
            raise not_supported(param, f"{feature} are not supported")
    if body.text and body.text.format and body.text.format.type != "text":
        kind = body.text.format.type
        raise not_supported("text.format", f"{kind!r} is not supported, only 'text'")
    if body.truncation not in (None, "auto", "disabled"):
        raise invalid("truncation", "must be 'auto' or 'disabled'")


def _messages(body: ResponseRequest) -> tuple[Message, ...]:
    if body.input is None:
        raise invalid("input", "this field is required")
    instructions = () if body.instructions is None else (Message("system", body.instructions),)
    if isinstance(body.input, str):
        return (*instructions, Message("user", body.input))
    if not body.input:
        raise invalid("input", "there must be at least one item")
    items = (_message(item, f"input[{index}]") for index, item in enumerate(body.input))
    return (*instructions, *items)


def _message(item: InputItem, place: str) -> Message:
    if item.type != "message":
        raise not_supported(place, f"items of type {item.type!r} are not supported, only messages")
    role = ROLES.get(item.role or "")
    if role is None:
        raise invalid(f"{place}.role", f"must be one of {', '.join(ROLES)}")
    if item.content is None:
        raise invalid(f"{place}.content", "this field is required")
    return Message(role, text_of(item.content, f"{place}.content"))
