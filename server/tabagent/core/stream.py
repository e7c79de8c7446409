"""What consumers iterate over: the events of one request, and the changes of the models."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self

from .bridge import Notify
from .errors import BackendError, TabagentError
from .events import (
    TERMINAL_EVENTS,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    merge_deltas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .backend import Backend
    from .events import Event, ModelStateChanged
    from .requests import GenerateRequest

__all__ = ["EventStream", "ModelChanges", "as_tabagent_error"]

log = logging.getLogger("tabagent.core")


class EventStream:
    """The events of one request; what `Engine.generate` returns.

    Use it as `async with` and iterate inside. The request is admitted on entering and cancelled on
    leaving. Each item is the non-empty list of all events that are ready, adjacent deltas joined;
    the last item ends with the one terminal event.

    Asking for the next item says that the one before has been sent, and gives its tokens' credit
    back: a consumer that sends before it asks bounds what is produced ahead of it. Cancelling the
    wait for an item loses no event. One task iterates.

    Attributes:
        request: What was asked for.
        model: The id of the model that answers, known on entering; empty after a refusal.
        refusal: Why the request was not taken, known on entering; it is also the `Failed` event
            of the only item. None for a request that waits for its model to load.
        on_end: Called once, with the terminal event; set by who admits the request.
    """

    def __init__(
        self,
        request: GenerateRequest,
        credit: int,
        admit: Callable[[EventStream], None],
        leave: Callable[[EventStream], None],
    ) -> None:
        self.request = request
        self.model = ""
        self.refusal: TabagentError | None = None
        self.on_end: Callable[[Finished | Failed], object] | None = None
        self._admit = admit
        self._leave = leave
        self._credit = credit
        self._unreturned = 0  # tokens handed out whose credit has not been given back
        self._ready: list[Event] = []
        self._notify = Notify()
        self._backend: Backend | None = None  # set while the backend runs the request
        self._cancelled = False
        self._entered = False
        self._ended = False
        self._left = False

    async def __aenter__(self) -> Self:
        self._entered = True
        if self._cancelled:
            self.cancel()
        else:
            self._admit(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._left = True
        self._ready.clear()
        self.cancel()
        self._leave(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        self._give_back_credit()
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._notify.wait()
        events, self._ready = self._ready, []
        if len(events) > 1:
            events = merge_deltas(events)
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta):
                self._unreturned += len(event.tokens)
        return events

    def cancel(self) -> None:
        """End the request soon, with `Finished(cancelled)`; also before it is entered."""
        self._cancelled = True
        if self._backend is not None:
            self._backend.cancel(self.request.request_id)
        elif self._entered:
            self.deliver([Finished(self.request.request_id, FinishReason.CANCELLED)])

    def submit(self, backend: Backend, model: str) -> None:
        """Hand the request to the backend that runs its model."""
        self._backend = backend
        try:
            backend.submit(model, self.request, self._credit, self.deliver)
        except Exception as error:
            self.refuse(as_tabagent_error(error, "decode_failed"))

    def refuse(self, error: TabagentError) -> None:
        """End the request before a backend has taken it."""
        self.refusal = error
        self.deliver([Failed(self.request.request_id, error)])

    def deliver(self, events: Sequence[Event]) -> None:
        """Take events of the request, in order; the backend's sink. Ignored after the end."""
        if self._ended:
            return
        if not self._left:
            self._ready += events
        end = events[-1]
        if isinstance(end, TERMINAL_EVENTS):
            self._ended = True
            self._backend = None
            if self.on_end is not None:
                self.on_end(end)
        self._notify.notify()

    def _give_back_credit(self) -> None:
        # In quarters: three remain, so nothing stalls, and fewer calls go to the backend.
        if self._backend is not None and self._unreturned * 4 >= self._credit:
            self._backend.grant(self.request.request_id, self._unreturned)
            self._unreturned = 0


class ModelChanges:
    """What happens to the models from `Engine.subscribe` on; ends when the engine closes.

    Each item is the non-empty list of all changes that are ready; of a run of load progress of
    one model only the latest is kept.
    """

    def __init__(self) -> None:
        self._ready: list[ModelStateChanged] = []
        self._notify = Notify()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ModelStateChanged]:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            await self._notify.wait()
        changes, self._ready = self._ready, []
        return changes

    def publish(self, change: ModelStateChanged) -> None:
        """Add a change."""
        last = self._ready[-1] if self._ready else None
        if last and (last.model, last.state) == (change.model, change.state):
            self._ready.pop()
        self._ready.append(change)
        self._notify.notify()

    def close(self) -> None:
        """End the iteration after what is ready."""
        self._closed = True
        self._notify.notify()


def as_tabagent_error(error: Exception, code: str) -> TabagentError:
    """Give an error that a backend should not have raised a code, and log where it came from."""
    if isinstance(error, TabagentError):
        return error
    log.error("a backend raised %s", type(error).__name__, exc_info=error)
    return BackendError(code, f"{type(error).__name__}: {error}")
