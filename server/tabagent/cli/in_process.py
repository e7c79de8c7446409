"""Runs models in the process of the command, without a server."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from anyio.from_thread import start_blocking_portal
from msgspec.structs import replace

from tabagent.app import Application
from tabagent.core.errors import RequestError
from tabagent.core.events import TERMINAL_EVENTS, Failed, ReasoningDelta, TextDelta
from tabagent.core.requests import GenerateRequest, Message, SamplingParams
from tabagent.log import configure_logging
from tabagent.models import find_model

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from anyio.from_thread import BlockingPortal

    from tabagent.config import Config, Paths
    from tabagent.core.engine import Engine
    from tabagent.core.events import Event
    from tabagent.core.stream import EventStream

__all__ = ["InProcess"]


class InProcess:
    """An engine of this process, on the event loop of a thread of its own; use it as `with`.

    Ctrl-C reaches the main thread only: it ends the wait for an answer and never the loop.
    """

    def __init__(self, config: Config, paths: Paths, model: str | None) -> None:
        configure_logging("warning", config.log_format)
        if model is not None:
            found = find_model(model, config, paths)
            config = replace(config, model=(f"{found.id}={found.source}",), no_model=False)
        self._application = Application(config, paths)
        if not self._application.models:
            raise RequestError("model_not_found", "no model is named; --model names one")
        self._portal: BlockingPortal
        self._engine: Engine
        self._running = ExitStack()

    @property
    def model(self) -> str:
        """The id of the model that answers by default."""
        return self._application.models[0].id

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._engine = self._portal.call(self._application.engine)
            stack.enter_context(self._portal.wrap_async_context_manager(self._engine))
            self._portal.call(self._engine.load, self.model)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()

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
        generating = self._portal.wrap_async_context_manager(self._engine.generate(request))
        with generating as stream:
            while True:
                for event in self._next(stream):
                    if isinstance(event, TextDelta | ReasoningDelta):
                        yield event.text
                    elif isinstance(event, Failed):
                        raise event.error
                    elif isinstance(event, TERMINAL_EVENTS):
                        return

    def _next(self, stream: EventStream) -> list[Event]:
        events = self._portal.start_task_soon(stream.__anext__)
        try:
            return events.result()
        except KeyboardInterrupt:
            events.cancel()
            raise
