"""Runs models in the process of the command, without a server."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from tabagent.app import Application
from tabagent.core.errors import RequestError
from tabagent.core.events import TERMINAL_EVENTS, Failed, ReasoningDelta, TextDelta
from tabagent.core.requests import GenerateRequest, Message, SamplingParams
from tabagent.log import configure_logging
from tabagent.models import find_model

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from tabagent.config import Config, Paths
    from tabagent.core.engine import Engine

__all__ = ["InProcess"]


class InProcess:
    """An engine of this process; use it as `with`. The loop runs only while an answer is made."""

    def __init__(self, config: Config, paths: Paths, model: str | None) -> None:
        configure_logging("warning", config.log_format)
        if model is not None:
            found = find_model(model, config, paths)
            config = replace(config, model=(f"{found.id}={found.source}",), no_model=False)
        self._application = Application(config, paths)
        if not self._application.models:
            raise RequestError("model_not_found", "no model is named; --model names one")
        self._runner = asyncio.Runner()
        self._closing: asyncio.Event
        self._engine: Engine
        self._running: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        """The id of the model that answers by default."""
        return self._application.models[0].id

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self._runner.run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    async def _start(self) -> None:
        self._closing = asyncio.Event()
        self._engine = self._application.engine()
        entered = asyncio.Event()
        self._running = asyncio.create_task(self._run_engine(entered))
        await entered.wait()
        await self._engine.load(self.model)

    async def _run_engine(self, entered: asyncio.Event) -> None:
        """Enter and leave the engine in one task, as it asks."""
        async with self._engine:
            entered.set()
            await self._closing.wait()

    async def _stop(self) -> None:
        if self._running is not None:
            self._closing.set()
            await self._running

    def stream_chat(
        self, model: str | None, messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]
    ) -> Generator[str]:
        """Yield an answer piece by piece; closing the iterator cancels it.

        :raises TabagentError: when the request fails.
        """
        sampling = {name: value for name, value in settings.items() if name != "max_tokens"}
        request = GenerateRequest(
            request_id=uuid.uuid4().hex,
            model=model,
            messages=tuple(Message(turn["role"], turn["content"]) for turn in messages),
            max_tokens=settings.get("max_tokens"),
            sampling=SamplingParams(**sampling),
        )
        stream = self._engine.generate(request)
        self._runner.run(stream.__aenter__())
        try:
            while True:
                for event in self._runner.run(stream.__anext__()):
                    if isinstance(event, TextDelta | ReasoningDelta):
                        yield event.text
                    elif isinstance(event, Failed):
                        raise event.error
                    elif isinstance(event, TERMINAL_EVENTS):
                        return
        finally:
            self._runner.run(stream.__aexit__())
