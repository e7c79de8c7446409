"""The objects and events of OpenAI's Responses dialect, as they go over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from .answer_fields import ModelObject, TimingsObject, TokenLogprobObject
from .wire import ErrorObject, error_object

if TYPE_CHECKING:
    from tabagent.core.events import ModelStateChanged

__all__ = [
    "ContentPartEvent",
    "ErrorEvent",
    "FailureReason",
    "IncompleteDetails",
    "InputTokensDetails",
    "ModelChangedEvent",
    "ModelListEvent",
    "ModelStateEvent",
    "NumberedEvent",
    "OutputItemEvent",
    "OutputMessage",
    "OutputText",
    "OutputTokensDetails",
    "PongEvent",
    "PromptProgressEvent",
    "QueuedEvent",
    "ResponseEvent",
    "ResponseObject",
    "ResponseUsage",
    "TextDeltaEvent",
    "TextDoneEvent",
    "TextFormat",
    "TextSettings",
    "model_state_event",
]


class OutputText(Struct, kw_only=True):
    """The text of an answer; `token_ids` is an extension."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprobObject] = []
    token_ids: list[int] | UnsetType = UNSET


class OutputMessage(Struct, kw_only=True):
    """The answer as an item that can be sent back as input."""

    id: str
    type: Literal["message"] = "message"
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class InputTokensDetails(Struct):
    """How many of the prompt's tokens were not read again."""

    cached_tokens: int = 0


class OutputTokensDetails(Struct):
    """How many of the answer's tokens were reasoning."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct):
    """Tokens used."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class FailureReason(Struct):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(Struct):
    """Why a response is not whole."""

    reason: Literal["max_output_tokens", "cancelled"]


class TextFormat(Struct):
    """The form of the answer."""

    type: str = "text"


class TextSettings(Struct):
    """How the answer is written."""

    format: TextFormat | None = field(default_factory=TextFormat)


class ResponseObject(Struct, kw_only=True):
    """A response at one moment of its life; `seed` and `timings` are extensions."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
    background: bool = False
    completed_at: int | None = None
    error: FailureReason | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    model: str
    output: list[OutputMessage] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    store: bool = False
    temperature: float | None = None
    text: TextSettings = field(default_factory=TextSettings)
    tool_choice: str = "auto"
    tools: list[Any] = []
    top_logprobs: int | None = None
    top_p: float | None = None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    seed: int | None = None
    timings: TimingsObject | None = None


class NumberedEvent(Struct, kw_only=True):
    """Base of the events in a response's log: numbered from 0, in the request's lane."""

    stream_id: str | UnsetType = UNSET
    sequence_number: int = 0


class ResponseEvent(NumberedEvent):
    """A step in the life of a response: created, in progress, or one of its ends."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseObject


class OutputItemEvent(NumberedEvent):
    """An item of the answer begins or ends."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    item: OutputMessage
    output_index: int = 0


class ContentPartEvent(NumberedEvent):
    """A part of an item begins or ends."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class TextDeltaEvent(NumberedEvent):
    """More of the text; `token_ids` is an extension."""

    type: Literal["response.output_text.delta"]
    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[TokenLogprobObject] = []
    token_ids: list[int] | UnsetType = UNSET


class TextDoneEvent(NumberedEvent):
    """The text is whole."""

    type: Literal["response.output_text.done"]
    item_id: str
    text: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[TokenLogprobObject] = []


class QueuedEvent(Struct, tag_field="type", tag="tabagent.queued"):
    """The response waits behind `position` others."""

    response_id: str
    position: int
    stream_id: str | UnsetType = UNSET


class PromptProgressEvent(Struct, tag_field="type", tag="tabagent.prompt_progress"):
    """`done` of `total` prompt tokens are read."""

    response_id: str
    done: int
    total: int
    stream_id: str | UnsetType = UNSET


class ModelStateEvent(Struct, tag_field="type", tag="tabagent.model.state"):
    """A model moved in its life; `progress` runs from 0 to 1 while it loads."""

    model: str
    state: str
    progress: float
    error: ErrorObject | None = None


class ModelListEvent(Struct, tag_field="type", tag="tabagent.model.list"):
    """Answers `tabagent.model.list`."""

    data: list[ModelObject]
    stream_id: str | UnsetType = UNSET


class ModelChangedEvent(Struct):
    """Answers `tabagent.model.load` and `tabagent.model.unload`, under the same type."""

    type: str
    model: ModelObject
    stream_id: str | UnsetType = UNSET


class ModelDeletedEvent(Struct, tag_field="type", tag="tabagent.model.delete"):
    """Answers `tabagent.model.delete`: the model is gone."""

    stream_id: str | UnsetType = UNSET


class PullProgressEvent(Struct, tag_field="type", tag="tabagent.model.pull.progress"):
    """`done` of a model's `total` bytes are there; `file` is the one that arrives."""

    model: str
    file: str
    done: int
    total: int
    stream_id: str | UnsetType = UNSET


class PullEvent(Struct, tag_field="type", tag="tabagent.model.pull"):
    """Answers `tabagent.model.pull`; a cancelled one has no model."""

    status: Literal["completed", "cancelled"]
    model: ModelObject | None = None
    stream_id: str | UnsetType = UNSET


class PongEvent(Struct, tag_field="type", tag="tabagent.pong"):
    """Answers `tabagent.ping`."""

    stream_id: str | UnsetType = UNSET


class ErrorEvent(Struct, tag_field="type", tag="error"):
    """A message was refused; the connection lives on."""

    error: ErrorObject
    stream_id: str | UnsetType = UNSET


def model_state_event(event: ModelStateChanged) -> ModelStateEvent:
    """Return the wire event of a model's move."""
    error = None if event.error is None else error_object(event.error)
    return ModelStateEvent(event.model, event.state.value, event.progress, error)
