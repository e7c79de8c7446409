"""Brings requests and models together: admission, model life cycle, cancelling."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
from msgspec import Struct

from .bridge import Notify
from .counters import Counters, ModelActivity
from .errors import RequestError, TabagentError
from .events import ModelState, ModelStateChanged, ModelStatus, Queued
from .stream import EventStream, ModelChanges, as_tabagent_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from anyio.abc import TaskGroup

    from .backend import Backend, ModelInfo, ModelSpec
    from .events import Failed, Finished
    from .requests import GenerateRequest

__all__ = ["Engine", "EngineLimits"]


class EngineLimits(Struct, frozen=True, kw_only=True):
    """How much the engine takes on.

    Attributes:
        max_queue: Requests per model that may wait beyond those decoded together.
        credit: Tokens of one request that may be produced and not yet sent.
        retry_after: Seconds after which a refused request is told to come back.
        close_timeout: Seconds that closing waits for consumers to take their last events.
    """

    max_queue: int = 64
    credit: int = 256
    retry_after: float = 1.0
    close_timeout: float = 5.0


class _Model:
    """One known model and the requests admitted to it that have not ended, oldest first."""

    def __init__(self, spec: ModelSpec, backend: Backend) -> None:
        self.spec = spec
        self.backend = backend
        self.state = ModelState.UNLOADED
        self.progress = 0.0
        self.info: ModelInfo | None = None
        self.error: TabagentError | None = None
        self.load_scope = anyio.CancelScope()  # of the load under way
        self.settled = anyio.Event()  # set when that load has succeeded or failed
        self.created = int(time.time())
        self.requests: dict[str, EventStream] = {}

    def status(self) -> ModelStatus:
        return ModelStatus(
            self.spec.id,
            self.spec.backend,
            self.state,
            self.progress,
            self.error,
            self.info.context_length if self.info else None,
            self.info.size_bytes if self.info else None,
            self.created,
            self.info.device if self.info else None,
        )

    def activity(self) -> ModelActivity:
        together = self.info.parallel if self.info else 0
        running = min(len(self.requests), together)
        return ModelActivity(self.spec.id, running, len(self.requests) - running)


class Engine:
    """Admits requests to models and runs the models' lives.

    Use it as `async with`: entering starts to load `models` in the background, one after the
    other; leaving closes it, in the same task.

    Models are loaded and unloaded one at a time. A request for a model that is loading waits; one
    for a model that failed gets the error of the failure; one for a model that is not loaded is
    `model_not_found`. A request without a model goes to the first one that is ready or loading.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        models: Iterable[ModelSpec] = (),
        *,
        limits: EngineLimits | None = None,
    ) -> None:
        self.counters = Counters()
        self._backends = dict(backends)
        self._limits = limits or EngineLimits()
        self._models: dict[str, _Model] = {}
        self._open: dict[str, EventStream] = {}  # entered and not left
        self._left = Notify()
        self._subscriptions: set[ModelChanges] = set()
        self._loads: TaskGroup | None = None
        self._one_at_a_time = anyio.Lock()
        self._closing = False
        self._loaded_at_start: list[_Model] = []
        for spec in models:
            self.register(spec)
            self._loaded_at_start.append(self._models[spec.id])

    async def __aenter__(self) -> Self:
        self._loads = await anyio.create_task_group().__aenter__()
        for model in self._loaded_at_start:
            self._start_load(model)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._loads is not None
        try:
            with anyio.CancelScope(shield=True):
                await self.aclose()
        finally:
            await self._loads.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Refuse new requests, cancel the running ones, end subscriptions and close the backends.

        Consumers get their terminal events before the backends close, as far as they take them
        within `close_timeout`. A load under way is waited for.
        """
        self._closing = True
        for stream in list(self._open.values()):
            stream.cancel()
        with anyio.move_on_after(self._limits.close_timeout):
            while self._open:
                await self._left.wait()
        for subscription in self._subscriptions:
            subscription.close()
        for model in self._models.values():
            model.load_scope.cancel()
        async with self._one_at_a_time:
            for backend in self._backends.values():
                await backend.aclose()

    def generate(self, request: GenerateRequest) -> EventStream:
        """Return the stream of the request's events; entering it admits the request.

        Nothing is raised for a request that cannot be taken: it fails with `model_not_found`,
        `overloaded`, `shutting_down`, or the error with which its model failed to load.
        """
        return EventStream(request, self._limits.credit, self._admit, self._leave)

    def cancel(self, request_id: str) -> None:
        """End a request soon, with `Finished(cancelled)`; unknown and ended ids are ignored."""
        stream = self._open.get(request_id)
        if stream is not None:
            stream.cancel()

    def register(self, spec: ModelSpec) -> None:
        """Make a model known, without loading it.

        :raises ValueError: when the id is taken or the backend unknown.
        """
        if spec.id in self._models:
            raise ValueError(f"there are two models with the id {spec.id!r}")
        if spec.backend not in self._backends:
            raise ValueError(f"there is no backend {spec.backend!r}")
        self._models[spec.id] = _Model(spec, self._backends[spec.backend])

    def models(self) -> list[ModelStatus]:
        """Return every known model, in the order in which they were registered."""
        return [model.status() for model in self._models.values()]

    def specs(self) -> list[ModelSpec]:
        """Return where every known model comes from, in the order of `models`."""
        return [model.spec for model in self._models.values()]

    def activity(self) -> list[ModelActivity]:
        """Return what each model is doing, in the order in which they were registered."""
        return [model.activity() for model in self._models.values()]

    def model(self, model_id: str) -> ModelStatus:
        """Return one model.

        :raises RequestError: `model_not_found`.
        """
        return self._known(model_id).status()

    async def load(self, model_id: str) -> ModelStatus:
        """Load a model, or wait for the load under way, and return it ready.

        Cancelling the wait does not stop the load.

        :raises TabagentError: why it cannot be loaded; the next call tries again.
        """
        model = self._known(model_id)
        self._start_load(model)
        if model.state is ModelState.LOADING:
            await model.settled.wait()
        if model.error is not None:
            raise model.error.with_traceback(None)
        return model.status()

    async def unload(self, model_id: str) -> ModelStatus:
        """Unload a model, cancel its requests and return it; a load under way is waited for.

        :raises RequestError: `model_not_found`.
        """
        model = self._known(model_id)
        for stream in list(model.requests.values()):
            stream.cancel()
        async with self._one_at_a_time:
            if model.state is ModelState.READY:
                model.info = None
                self._change(model, ModelState.UNLOADED)
                with anyio.CancelScope(shield=True):  # half an unload would leave nobody's model
                    await model.backend.unload(model_id)
        return model.status()

    async def forget(self, model_id: str) -> None:
        """Unload a model, so that it is known no longer.

        :raises RequestError: `model_not_found`.
        """
        await self.unload(model_id)
        self._models.pop(model_id, None)

    @contextmanager
    def subscribe(self) -> Iterator[ModelChanges]:
        """Watch the models' lives; use as `with` and iterate inside."""
        changes = ModelChanges()
        self._subscriptions.add(changes)
        if self._closing:
            changes.close()
        try:
            yield changes
        finally:
            self._subscriptions.discard(changes)

    def _known(self, model_id: str) -> _Model:
        try:
            return self._models[model_id]
        except KeyError:
            message = f"there is no model {model_id!r}"
            raise RequestError("model_not_found", message, param="model") from None

    def _chosen(self, model_id: str | None) -> _Model:
        """The model that a request means, ready or loading."""
        usable = {ModelState.READY, ModelState.LOADING}
        if model_id is None:
            for model in self._models.values():
                if model.state in usable:
                    return model
            raise RequestError("model_not_found", "no model is loaded", param="model")
        model = self._known(model_id)
        if model.error is not None:
            raise model.error.with_traceback(None)
        if model.state not in usable:
            message = f"the model {model_id!r} is not loaded"
            raise RequestError("model_not_found", message, param="model")
        return model

    def _admit(self, stream: EventStream) -> None:
        request = stream.request
        live = [self._open, *(model.requests for model in self._models.values())]
        if any(request.request_id in requests for requests in live):
            raise ValueError(f"the request id {request.request_id!r} is in use")
        self._open[request.request_id] = stream
        stream.on_end = self.counters.add
        try:
            if self._closing:
                raise RequestError("shutting_down", "the server is shutting down")
            model = self._chosen(request.model)
            self._require_room(model)
        except TabagentError as error:
            stream.refuse(error)
            return
        model.requests[request.request_id] = stream
        stream.model = model.spec.id
        stream.on_end = partial(self._end, model)
        if model.state is ModelState.READY:
            stream.submit(model.backend, model.spec.id)
        else:
            stream.deliver([Queued(request.request_id, len(model.requests) - 1)])

    def _end(self, model: _Model, end: Finished | Failed) -> None:
        del model.requests[end.request_id]
        self.counters.add(end)

    def _require_room(self, model: _Model) -> None:
        together = model.info.parallel if model.info else 0
        if len(model.requests) >= together + self._limits.max_queue:
            wait = self._limits.retry_after
            message = f"the queue is full; try again in {math.ceil(wait)} s"
            raise RequestError("overloaded", message, retry_after=wait)

    def _leave(self, stream: EventStream) -> None:
        self._open.pop(stream.request.request_id, None)
        self._left.notify()

    def _start_load(self, model: _Model) -> None:
        if model.state in {ModelState.READY, ModelState.LOADING}:
            return
        if self._loads is None or self._closing:
            raise RequestError("shutting_down", "the server is not running")
        model.error = None
        model.load_scope = anyio.CancelScope()
        model.settled = anyio.Event()
        self._change(model, ModelState.LOADING)
        self._loads.start_soon(self._load, model, name=f"load {model.spec.id}")

    async def _load(self, model: _Model) -> None:
        error: TabagentError | None = RequestError("shutting_down", "the server is shutting down")
        try:
            with model.load_scope:
                async with self._one_at_a_time:
                    progress = partial(self._change, model, ModelState.LOADING)
                    model.info = await model.backend.load(model.spec, progress)
                error = None
        except Exception as reason:
            error = as_tabagent_error(reason, "model_load_failed")
        finally:
            self._settle(model, error)

    def _settle(self, model: _Model, error: TabagentError | None) -> None:
        """End a load; the requests that waited for it are submitted, or fail with it."""
        model.error = error
        self._change(model, ModelState.FAILED if error else ModelState.READY)
        model.settled.set()
        for stream in list(model.requests.values()):
            if error is None:
                stream.submit(model.backend, model.spec.id)
            else:
                stream.refuse(error)

    def _change(self, model: _Model, state: ModelState, progress: float = 0.0) -> None:
        model.state = state
        model.progress = 1.0 if state is ModelState.READY else progress
        change = ModelStateChanged(model.spec.id, state, model.progress, model.error)
        for subscription in self._subscriptions:
            subscription.publish(change)
