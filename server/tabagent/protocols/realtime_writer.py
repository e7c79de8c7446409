"""Writes one response: turns the events of a request into the events of the Realtime dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tabagent.core.events import (
    Failed,
    Finished,
    FinishReason,
    PromptProgress,
    Started,
    TextDelta,
)

from .answer_fields import timings_object
from .realtime_objects import (
    ConversationItem,
    ItemEvent,
    ItemPart,
    OutputItemEvent,
    PartEvent,
    PromptProgressEvent,
    ResponseEvent,
    ResponseExtras,
    ResponsePart,
    ServerEvent,
    StatusDetails,
    StatusError,
    TextDeltaEvent,
    TextDoneEvent,
    realtime_usage,
)
from .wire import encode, error_object, new_id

if TYPE_CHECKING:
    from tabagent.core.events import Event

    from .realtime_conversation import Conversation
    from .realtime_objects import RealtimeResponse

__all__ = ["Outbox", "RealtimeWriter"]

_PLACEHOLDER = "\0"
"""Marks, in a delta encoded once, the place of the text; nothing else in it has this character."""


class Outbox:
    """Writes events: each gets an id that is unique on its connection."""

    def __init__(self, messages: list[str]) -> None:
        """Write to `messages`."""
        self._messages = messages
        self._prefix = new_id("event_")[:22]
        self._count = 0

    def put(self, event: ServerEvent) -> None:
        """Add an event, and name it."""
        event.event_id = self._next_id()
        self._messages.append(encode(event))

    def put_framed(self, before: str, text: str, after: str) -> None:
        """Add an event of which only the text and the id are new; its id comes last."""
        self._messages.append(f'{before}{encode(text)}{after}{self._next_id()}"}}')

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._count}"


class RealtimeWriter:
    """The life of one response on the wire: *new* until `open`, then *created*, then *done*.

    Attributes:
        response: The response as it is now.
        opened: Whether `response.created` is written.
        cancelled: Whether the client has asked for its end.
    """

    def __init__(
        self,
        response: RealtimeResponse,
        outbox: Outbox,
        conversation: Conversation | None,
        *,
        token_ids: bool,
    ) -> None:
        """Write to `outbox`; the answer becomes part of `conversation`, if given."""
        self.response = response
        self.opened = False
        self.cancelled = False
        self._outbox = outbox
        self._conversation = conversation
        self._token_ids = token_ids
        self._item: ConversationItem | None = None
        self._texts: list[str] = []
        self._delta_frame = ("", "")

    def open(self) -> None:
        """Write `response.created`."""
        self.opened = True
        self._outbox.put(ResponseEvent("response.created", self.response))

    def send_event(self, event: Event) -> None:
        """Take one event of the request."""
        if isinstance(event, TextDelta):
            self._write_delta(event)
        elif isinstance(event, Started):
            self.response.tabagent = ResponseExtras(model=event.model, seed=event.seed)
        elif isinstance(event, PromptProgress):
            self._outbox.put(PromptProgressEvent(self.response.id, event.done, event.total))
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Failed):
            self._fail(event)

    def _write_delta(self, event: TextDelta) -> None:
        item = self._item or self._open_item()
        self._texts.append(event.text)
        if self._token_ids:
            delta = TextDeltaEvent(self.response.id, item.id, event.text)
            delta.token_ids = list(event.tokens)
            self._outbox.put(delta)
        elif event.text:
            before, after = self._delta_frame
            self._outbox.put_framed(before, event.text, after)

    def _open_item(self) -> ConversationItem:
        item = ConversationItem(
            id=new_id("item_"), status="in_progress", role="assistant", content=[]
        )
        self._item = item
        response_id = self.response.id
        self._outbox.put(OutputItemEvent("response.output_item.added", response_id, item))
        if self._conversation is not None:
            previous = self._conversation.append_answer(item)
            self._outbox.put(ItemEvent("conversation.item.added", item, previous))
        part = ResponsePart("")
        self._outbox.put(PartEvent("response.content_part.added", response_id, item.id, part))
        # Such a delta is the same two pieces around its text each time, then its id.
        sample = encode(TextDeltaEvent(response_id, item.id, _PLACEHOLDER))
        before, _, after = sample.partition(encode(_PLACEHOLDER))
        self._delta_frame = before, after.removesuffix('"}')
        return item

    def _close_item(self, status: Literal["completed", "incomplete"]) -> None:
        item = self._item
        if item is None:
            return
        text, response_id = "".join(self._texts), self.response.id
        item.status, item.content = status, [ItemPart(type="output_text", text=text)]
        self.response.output = [item]
        part = ResponsePart(text)
        self._outbox.put(TextDoneEvent(response_id, item.id, text))
        self._outbox.put(PartEvent("response.content_part.done", response_id, item.id, part))
        if self._conversation is not None:
            previous = self._conversation.count_answer(item)
            self._outbox.put(ItemEvent("conversation.item.done", item, previous))
        self._outbox.put(OutputItemEvent("response.output_item.done", response_id, item))

    def _finish(self, event: Finished) -> None:
        response = self.response
        whole = event.reason is FinishReason.STOP
        if whole and self._item is None:
            self._open_item()
        self._close_item("completed" if whole else "incomplete")
        response.usage = realtime_usage(event.usage)
        if response.tabagent is not None:
            response.tabagent.timings = timings_object(event)
        if whole:
            response.status = "completed"
        elif event.reason is FinishReason.CANCELLED:
            response.status = "cancelled"
            response.status_details = StatusDetails(type="cancelled")
            if self.cancelled:
                response.status_details.reason = "client_cancelled"
        else:
            response.status = "incomplete"
            response.status_details = StatusDetails(type="incomplete", reason="max_output_tokens")
        self._outbox.put(ResponseEvent("response.done", response))

    def _fail(self, event: Failed) -> None:
        self._close_item("incomplete")
        told = error_object(event.error)
        self.response.status = "failed"
        self.response.status_details = StatusDetails(
            type="failed", error=StatusError(told.type, told.code, told.message)
        )
        self._outbox.put(ResponseEvent("response.done", self.response))
