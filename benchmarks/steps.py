"""A server with a model that makes tokens in even steps: `python -m benchmarks.steps HOME`.

The rest of it is real: sessions, protocols and doors. It says its port once it is ready.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, ClassVar, Final

from tabagent.app import Application
from tabagent.config import Config, Paths
from tabagent.core.backend import Backend, BackendHealth, ModelInfo
from tabagent.core.events import Finished, FinishReason, Started, TextDelta
from tabagent.registry import Registry
from tabagent.run import loop_factory

if TYPE_CHECKING:
    from collections.abc import Callable

    from tabagent.core.backend import EventSink, ModelSpec
    from tabagent.core.requests import GenerateRequest

PER_SECOND: Final = 30
"""Tokens of each request."""

BATCHES: Final = 4
"""Batches of requests; they step in turn, each as one, as a model decodes them."""

PARALLEL: Final = 10_000


class _Batch(dict[str, "_Running"]):
    """Requests by their ids, and when they get their next tokens."""

    def __init__(self, due: float) -> None:
        super().__init__()
        self.due = due

    def tokens_due(self) -> list[str]:
        """Return those made since the last time: more than one when the loop is late."""
        made = []
        while self.due <= time.monotonic():
            made.append(f" {self.due:.6f}")
            self.due += 1 / PER_SECOND
        return made


class _Running:
    def __init__(self, sink: EventSink, credit: int) -> None:
        self.sink = sink
        self.credit = credit


class StepBackend(Backend):
    """Answers without end; each token is the time at which it was made (`time.monotonic`)."""

    name: ClassVar[str] = "steps"

    def __init__(self, config: object) -> None:
        super().__init__(config)  # type: ignore[arg-type]
        begin = time.monotonic()
        self._batches = [_Batch(begin + n / BATCHES / PER_SECOND) for n in range(BATCHES)]
        self._stepping: asyncio.Task[None] | None = None

    @classmethod
    def claims(cls, source: str) -> bool:
        """Claim sources that begin with `steps:`."""
        return source.startswith("steps:")

    @classmethod
    def health(cls, config: object) -> BackendHealth:
        """Report that it always works."""
        return BackendHealth(cls.name, installed=True, works=True)

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> ModelInfo:
        """Start to step."""
        self._stepping = asyncio.create_task(self._step())
        return ModelInfo(context_length=1 << 30, parallel=PARALLEL)

    async def unload(self, model: str) -> None:
        """Stop."""
        for batch in self._batches:
            for request_id in list(batch):
                self.cancel(request_id)
        if self._stepping is not None:
            self._stepping.cancel()

    def submit(self, model: str, request: GenerateRequest, credit: int, sink: EventSink) -> None:
        """Add the request to the smallest batch."""
        request_id = request.request_id
        min(self._batches, key=len)[request_id] = _Running(sink, credit)
        sink([Started(request_id, model, 1)])

    def cancel(self, request_id: str) -> None:
        """End the request."""
        for batch in self._batches:
            if running := batch.pop(request_id, None):
                running.sink([Finished(request_id, FinishReason.CANCELLED)])

    def grant(self, request_id: str, tokens: int) -> None:
        """Let the request go on."""
        for batch in self._batches:
            if running := batch.get(request_id):
                running.credit += tokens

    async def aclose(self) -> None:
        """Unload."""
        await self.unload("")

    async def _step(self) -> None:
        turns = deque(self._batches)
        while True:
            batch = turns[0]
            wait = batch.due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)  # which may end too early: the loop's own clock lags
                continue
            turns.rotate(-1)
            tokens = batch.tokens_due()
            for request_id, running in list(batch.items()):
                taken = tokens[: running.credit]
                running.credit -= len(taken)
                if taken:
                    running.sink([TextDelta(request_id, text, (1,)) for text in taken])


def main(home: str) -> None:
    ours = EntryPoint("steps", "benchmarks.steps:StepBackend", "tabagent.backends")
    groups = ("tabagent.backends", "tabagent.transports", "tabagent.protocols")
    found = [point for group in groups for point in entry_points(group=group)]
    application = Application(
        Config(model=("demo=echo:demo", "steps=steps:"), port=0, max_peers=1000),
        Paths.locate({**os.environ, "TABAGENT_HOME": home}),
        Registry([*found, ours]),
    )
    sockets = application.listen()

    def ready(url: str | None) -> None:
        print(sockets[0].getsockname()[1], flush=True)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(application.run(sockets, ready))


if __name__ == "__main__":
    main(sys.argv[1])
