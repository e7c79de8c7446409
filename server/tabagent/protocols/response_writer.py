"""Writes one response: turns the events of a request into the events of the Responses dialect."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from tabagent.core.events import (
    Failed,
    Finished,
    FinishReason,
    PromptProgress,
    Queued,
    Started,
    TextDelta,
)
from tabagent.core.protocol import AnswerWriter

from .answer_fields import timings_object, token_logprobs
from .response_objects import (
    ContentPartEvent,
    FailureReason,
    IncompleteDetails,
    InputTokensDetails,
    NumberedEvent,
    OutputItemEvent,
    OutputMessage,
    OutputText,
    OutputTokensDetails,
    PromptProgressEvent,
    QueuedEvent,
    ResponseEvent,
    ResponseObject,
    ResponseUsage,
    TextDeltaEvent,
    TextDoneEvent,
)
from .wire import encode, new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from tabagent.core.events import Event, TokenLogprob, Usage

    from .response_request import ResponseRequest

__all__ = ["ResponseWriter"]

_PLACEHOLDER = "\0"
"""Marks, in a delta encoded once, the place of the text; nothing else in it has this character."""


class ResponseWriter(AnswerWriter):
    """The life of one response on the wire.

    Its states: *new* until `open`, then *created*, *in progress* once the request has a slot,
    and *ended*. Numbers are given when an event is made: 0 is always `response.created`.

    Attributes:
        response: The response as it is now.
        opened: Whether `response.created` is written.
        tabagent_events: Whether the `tabagent.*` events of this response are written.
    """

    def __init__(
        self,
        body: ResponseRequest,
        response_id: str,
        messages: list[str],
        *,
        tabagent_events: bool,
    ) -> None:
        """Write to `messages`; `tabagent_events` counts where the body does not say."""
        options = body.tabagent
        if options is not None and options.events is not None:
            tabagent_events = options.events
        self.tabagent_events = tabagent_events
        self.opened = False
        self.response = _response(body, response_id)
        self._body = body
        self.write_to(messages.append, messages.append)
        self._lane: str | UnsetType = UNSET if body.stream_id is None else body.stream_id
        self._number = 0
        self._started = False
        self._item: OutputMessage | None = None
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._delta_frame = ("", "")

    def write_to(self, write: Callable[[str], object], remark: Callable[[str], object]) -> None:
        """Hand numbered events to `write` and the others to `remark` from now on."""
        self._hand_over = write
        self._remark = remark

    def open(self, model: str | None = None) -> None:
        """Write `response.created`, once; `model` answers, where that is known."""
        if not self.opened:
            self.opened = True
            self.response.model = model or self.response.model
            self._write(ResponseEvent("response.created", self.response))

    def send_event(self, event: Event) -> None:
        """Take one event of the request."""
        if not self.opened:
            self.open()
        if isinstance(event, TextDelta):
            self._write_delta(event)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Queued | PromptProgress):
            if self.tabagent_events:
                self._write_waiting(event)
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Failed):
            self.response.error = FailureReason(event.error.code, event.error.message)
            self.response.status = "failed"
            self._close_item("incomplete", announce=False)
            self._write(ResponseEvent("response.failed", self.response))

    def cancel(self) -> None:
        """End a response that never became a request."""
        self.open()
        self._finish(Finished(self.response.id, FinishReason.CANCELLED))

    def _write(self, event: NumberedEvent) -> None:
        event.sequence_number = self._number
        event.stream_id = self._lane
        self._hand_over(encode(event))
        self._number += 1

    def _write_waiting(self, event: Queued | PromptProgress) -> None:
        waiting: QueuedEvent | PromptProgressEvent
        if isinstance(event, Queued):
            waiting = QueuedEvent(self.response.id, event.position)
        else:
            waiting = PromptProgressEvent(self.response.id, event.done, event.total)
        waiting.stream_id = self._lane
        self._remark(encode(waiting))

    def _start(self, event: Started) -> None:
        self.response.model = event.model
        self.response.seed = event.seed
        self._write(ResponseEvent("response.in_progress", self.response))

    def _write_delta(self, event: TextDelta) -> None:
        item = self._item or self._open_item()
        self._texts.append(event.text)
        if event.logprobs or self._body.return_token_ids:
            self._tokens += event.tokens
            self._logprobs += event.logprobs
            delta = _delta(item, event.text)
            delta.logprobs = token_logprobs(event.logprobs)
            delta.token_ids = list(event.tokens) if self._body.return_token_ids else UNSET
            self._write(delta)
        elif event.text:
            before, after = self._delta_frame
            self._hand_over(f"{before}{encode(event.text)}{after}{self._number}}}")
            self._number += 1

    def _open_item(self) -> OutputMessage:
        self._item = item = OutputMessage(id=new_id("msg_"), status="in_progress", content=[])
        self._write(OutputItemEvent("response.output_item.added", item))
        self._write(ContentPartEvent("response.content_part.added", item.id, OutputText(text="")))
        # Such a delta is the same two pieces around its text each time, then its number.
        sample = _delta(item, _PLACEHOLDER)
        sample.stream_id = self._lane
        before, _, after = encode(sample).partition(encode(_PLACEHOLDER))
        self._delta_frame = before, after.removesuffix("0}")
        return item

    def _close_item(self, status: Literal["completed", "incomplete"], *, announce: bool) -> None:
        """Put the item into the response; `announce` writes the events of its end too."""
        item = self._item
        if item is None:
            return
        part = OutputText(
            text="".join(self._texts),
            logprobs=token_logprobs(self._logprobs),
            token_ids=self._tokens if self._body.return_token_ids else UNSET,
        )
        item.status, item.content = status, [part]
        self.response.output = [item]
        if announce:
            done = TextDoneEvent("response.output_text.done", item.id, part.text)
            done.logprobs = part.logprobs
            self._write(done)
            self._write(ContentPartEvent("response.content_part.done", item.id, part))
            self._write(OutputItemEvent("response.output_item.done", item))

    def _finish(self, event: Finished) -> None:
        prompt_only = self._body.generate is False
        whole = event.reason is FinishReason.STOP or (
            prompt_only and event.reason is FinishReason.LENGTH
        )
        if whole and not prompt_only and self._item is None:
            self._open_item()
        self._close_item("completed" if whole else "incomplete", announce=True)
        self.response.usage = _usage(event.usage)
        self.response.timings = timings_object(event)
        if whole:
            self.response.status = "completed"
            self.response.completed_at = int(time.time())
            self._write(ResponseEvent("response.completed", self.response))
            return
        cancelled = event.reason is FinishReason.CANCELLED
        self.response.status = "cancelled" if cancelled else "incomplete"
        self.response.incomplete_details = IncompleteDetails(
            "cancelled" if cancelled else "max_output_tokens"
        )
        self._write(ResponseEvent("response.incomplete", self.response))


def _delta(item: OutputMessage, text: str) -> TextDeltaEvent:
    return TextDeltaEvent("response.output_text.delta", item.id, text)


def _response(body: ResponseRequest, response_id: str) -> ResponseObject:
    return ResponseObject(
        id=response_id,
        created_at=int(time.time()),
        status="in_progress",
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=body.model or "",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        temperature=body.temperature,
        tool_choice=body.tool_choice if isinstance(body.tool_choice, str) else "auto",
        top_logprobs=body.top_logprobs,
        top_p=body.top_p,
        user=body.user,
        seed=body.seed,
    )


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        usage.prompt_tokens,
        InputTokensDetails(usage.cached_tokens),
        usage.completion_tokens,
        OutputTokensDetails(),
        usage.total_tokens,
    )
