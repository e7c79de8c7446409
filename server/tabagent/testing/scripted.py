"""A backend that does only what a test tells it to, and remembers what it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import anyio
from msgspec import Struct

from tabagent.core.backend import Backend, BackendConfig, BackendHealth, EventSink, ModelInfo
from tabagent.core.events import TERMINAL_EVENTS, Finished, FinishReason
from tabagent.core.requests import GenerateRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tabagent.core.backend import ModelSpec
    from tabagent.core.events import Event

__all__ = ["ScriptedBackend", "Submission"]


class Submission(Struct):
    """One submitted request, as the backend got it."""

    model: str
    request: GenerateRequest
    credit: int
    sink: EventSink


class ScriptedBackend(Backend):
    """Runs no model: tests emit the events and open or fail the loads.

    Attributes:
        info: What `load` returns.
        load_error: What `load` raises instead, when set.
        may_load: `load` waits for it; set from the start.
        loads: Ids given to `load`, in order.
        unloads: Ids given to `unload`, in order.
        running: Requests submitted and not ended, by id.
        submitted: Ids given to `submit`, in order.
        cancelled: Ids given to `cancel`, in order.
        granted: What was given to `grant`, in order.
        closed: Whether `aclose` was called.
    """

    name: ClassVar[str] = "scripted"

    def __init__(self, config: BackendConfig | None = None) -> None:
        super().__init__(config or BackendConfig())
        self.info = ModelInfo(context_length=64, parallel=self.config.parallel, size_bytes=1)
        self.load_error: Exception | None = None
        self.may_load = anyio.Event()
        self.may_load.set()
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.running: dict[str, Submission] = {}
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.granted: list[tuple[str, int]] = []
        self.closed = False

    @classmethod
    def claims(cls, source: str) -> bool:
        """Claim sources that begin with `scripted:`."""
        return source.startswith("scripted:")

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> ModelInfo:
        """Report half, wait for `may_load`, then do as `load_error` and `info` say."""
        self.loads.append(spec.id)
        progress(0.5)
        await self.may_load.wait()
        if self.load_error is not None:
            raise self.load_error
        return self.info

    async def unload(self, model: str) -> None:
        """End the model's requests as cancelled."""
        self.unloads.append(model)
        for request_id, submission in list(self.running.items()):
            if submission.model == model:
                self.cancel(request_id)

    def submit(self, model: str, request: GenerateRequest, credit: int, sink: EventSink) -> None:
        """Remember the request; its events come from `emit`."""
        self.submitted.append(request.request_id)
        self.running[request.request_id] = Submission(model, request, credit, sink)

    def cancel(self, request_id: str) -> None:
        """Remember it, and end the request as cancelled when it runs."""
        self.cancelled.append(request_id)
        if request_id in self.running:
            self.emit(request_id, Finished(request_id, FinishReason.CANCELLED))

    def grant(self, request_id: str, tokens: int) -> None:
        """Remember it."""
        self.granted.append((request_id, tokens))

    def emit(self, request_id: str, *events: Event) -> None:
        """Hand events of a running request to its sink, as one batch."""
        submission = self.running[request_id]
        if isinstance(events[-1], TERMINAL_EVENTS):
            del self.running[request_id]
        submission.sink(events)

    @classmethod
    def health(cls, config: BackendConfig) -> BackendHealth:
        """Report that it always works."""
        return BackendHealth(cls.name, installed=True, works=True)

    async def aclose(self) -> None:
        """End every request as cancelled."""
        self.closed = True
        for request_id in list(self.running):
            self.cancel(request_id)
