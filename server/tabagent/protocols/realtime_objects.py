"""The objects and server events of OpenAI's Realtime dialect (text), as they go over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct, UnsetType

from .answer_fields import TimingsObject
from .wire import ErrorObject, error_object

if TYPE_CHECKING:
    from tabagent.core.errors import TabagentError
    from tabagent.core.events import ModelStateChanged, Usage

__all__ = [
    "CancelReason",
    "ConversationItem",
    "ErrorEvent",
    "ItemDeletedEvent",
    "ItemEvent",
    "ItemPart",
    "ItemRetrievedEvent",
    "ModelStateEvent",
    "OutputItemEvent",
    "PartEvent",
    "PongEvent",
    "PromptProgressEvent",
    "QueueState",
    "RateLimit",
    "RateLimitsEvent",
    "RealtimeResponse",
    "RealtimeUsage",
    "ResponseEvent",
    "ResponseExtras",
    "ResponsePart",
    "ServerEvent",
    "SessionEvent",
    "SessionObject",
    "StatusDetails",
    "StatusError",
    "TextDeltaEvent",
    "TextDoneEvent",
    "model_state_event",
    "realtime_error",
    "realtime_usage",
]

CancelReason = Literal["client_cancelled", "max_output_tokens"]


class SessionObject(Struct, kw_only=True):
    """The settings in force; `tabagent` holds the extensions that were given."""

    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    id: str
    model: str | UnsetType = UNSET
    output_modalities: list[Literal["text"]]
    instructions: str
    tools: list[Any]
    tool_choice: str
    max_output_tokens: int | Literal["inf"]
    truncation: Literal["auto", "disabled"]
    tabagent: dict[str, Any]


class ItemPart(Struct, kw_only=True):
    """A text in an item: `input_text` of users and the system, `output_text` of the assistant."""

    type: Literal["input_text", "output_text"]
    text: str


class ConversationItem(Struct, kw_only=True):
    """A message of a conversation."""

    id: str
    object: Literal["realtime.item"] = "realtime.item"
    type: Literal["message"] = "message"
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    role: Literal["user", "assistant", "system"]
    content: list[ItemPart]


class TokenDetails(Struct, kw_only=True):
    """Tokens by what they stand for; here all are text."""

    text_tokens: int
    audio_tokens: int = 0
    image_tokens: int = 0


class InputTokenDetails(TokenDetails, kw_only=True):
    """Tokens of the prompt; the cached ones were not read again."""

    cached_tokens: int
    cached_tokens_details: TokenDetails


class OutputTokenDetails(Struct, kw_only=True):
    """Tokens of the answer."""

    text_tokens: int
    audio_tokens: int = 0


class RealtimeUsage(Struct, kw_only=True):
    """Tokens used."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_token_details: InputTokenDetails
    output_token_details: OutputTokenDetails


class StatusError(Struct):
    """Why a response failed."""

    type: str
    code: str
    message: str


class StatusDetails(Struct, kw_only=True):
    """More on how a response ended."""

    type: Literal["cancelled", "incomplete", "failed"]
    reason: CancelReason | UnsetType = UNSET
    error: StatusError | UnsetType = UNSET


class ResponseExtras(Struct, kw_only=True):
    """What the dialect has no field for; known once the response has a slot, `timings` last."""

    model: str
    seed: int | None
    timings: TimingsObject | None = None


class RealtimeResponse(Struct, kw_only=True):
    """A response at one moment of its life."""

    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: Literal["in_progress", "completed", "cancelled", "failed", "incomplete"] = "in_progress"
    status_details: StatusDetails | None = None
    output: list[ConversationItem] = []
    conversation_id: str | None
    output_modalities: list[Literal["text"]]
    max_output_tokens: int | Literal["inf"]
    usage: RealtimeUsage | None = None
    metadata: dict[str, str] | None = None
    tabagent: ResponseExtras | None = None


class ServerEvent(Struct, kw_only=True):
    """Base of all that the server says."""

    event_id: str = ""


class SessionEvent(ServerEvent):
    """The session began, or has other settings now."""

    type: Literal["session.created", "session.updated"]
    session: SessionObject


class ItemEvent(ServerEvent):
    """An item entered the conversation, or is whole."""

    type: Literal["conversation.item.added", "conversation.item.done"]
    item: ConversationItem
    previous_item_id: str | None


class ItemDeletedEvent(ServerEvent, tag_field="type", tag="conversation.item.deleted"):
    """An item left the conversation."""

    item_id: str


class ItemRetrievedEvent(ServerEvent, tag_field="type", tag="conversation.item.retrieved"):
    """Answers `conversation.item.retrieve`."""

    item: ConversationItem


class ResponseEvent(ServerEvent):
    """A response began or ended."""

    type: Literal["response.created", "response.done"]
    response: RealtimeResponse


class OutputItemEvent(ServerEvent):
    """An item of the answer begins or ends."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    response_id: str
    item: ConversationItem
    output_index: int = 0


class ResponsePart(Struct):
    """A text of an answer, as the events of a response name it."""

    text: str
    type: Literal["text"] = "text"


class PartEvent(ServerEvent):
    """A part of an item begins or ends."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    response_id: str
    item_id: str
    part: ResponsePart
    output_index: int = 0
    content_index: int = 0


class TextDeltaEvent(ServerEvent, tag_field="type", tag="response.output_text.delta"):
    """More of the text; `token_ids` is an extension."""

    response_id: str
    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0
    token_ids: list[int] | UnsetType = UNSET


class TextDoneEvent(ServerEvent, tag_field="type", tag="response.output_text.done"):
    """The text is whole."""

    response_id: str
    item_id: str
    text: str
    output_index: int = 0
    content_index: int = 0


class RateLimit(Struct):
    """How much of what a connection may have open is left."""

    limit: int
    remaining: int
    name: Literal["requests"] = "requests"
    reset_seconds: float = 0.0


class QueueState(Struct):
    """The response waits behind `queue_position` others; 0 when it does not wait."""

    response_id: str
    queue_position: int


class RateLimitsEvent(ServerEvent, tag_field="type", tag="rate_limits.updated"):
    """A response was admitted, or moved in the queue, which `tabagent` tells."""

    rate_limits: list[RateLimit]
    tabagent: QueueState


class PromptProgressEvent(ServerEvent, tag_field="type", tag="tabagent.prompt_progress"):
    """`done` of `total` prompt tokens are read."""

    response_id: str
    done: int
    total: int


class ModelStateEvent(ServerEvent, tag_field="type", tag="tabagent.model.state"):
    """A model moved in its life; `progress` runs from 0 to 1 while it loads."""

    model: str
    state: str
    progress: float
    error: ErrorObject | None = None


class PongEvent(ServerEvent, tag_field="type", tag="tabagent.pong"):
    """Answers `tabagent.ping`."""


class RealtimeError(ErrorObject):
    """What went wrong; `event_id` is that of the client's event to blame."""

    event_id: str | None = None


class ErrorEvent(ServerEvent, tag_field="type", tag="error"):
    """An event was refused; the session lives on."""

    error: RealtimeError


def realtime_error(error: TabagentError, event_id: str | None) -> ErrorEvent:
    """Return the event that refuses the client's event `event_id`."""
    told = error_object(error)
    return ErrorEvent(
        error=RealtimeError(
            told.message,
            told.type,
            told.code,
            told.param,
            told.reason,
            told.pairing_code,
            event_id,
        )
    )


def model_state_event(event: ModelStateChanged) -> ModelStateEvent:
    """Return the wire event of a model's move."""
    error = None if event.error is None else error_object(event.error)
    return ModelStateEvent(event.model, event.state.value, event.progress, error)


def realtime_usage(usage: Usage) -> RealtimeUsage:
    """Return the wire object of a response's usage."""
    cached = usage.cached_tokens
    return RealtimeUsage(
        total_tokens=usage.total_tokens,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        input_token_details=InputTokenDetails(
            text_tokens=usage.prompt_tokens,
            cached_tokens=cached,
            cached_tokens_details=TokenDetails(text_tokens=cached),
        ),
        output_token_details=OutputTokenDetails(text_tokens=usage.completion_tokens),
    )
