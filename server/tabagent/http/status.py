"""Routes that tell how the server is: health, metrics, and what it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.responses import Response
from starlette.routing import Route

from tabagent.core.events import ModelState

from .errors import json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.requests import Request

    from tabagent.core.engine import Engine

__all__ = ["StatusRoutes"]

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class StatusRoutes:
    """What `/health`, `/metrics` and `/v1/system` answer."""

    def __init__(self, engine: Engine, system_info: Callable[[], Mapping[str, Any]]) -> None:
        self._engine = engine
        self._system_info = system_info

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/system", self.system),
        ]

    async def health(self, request: Request) -> Response:
        """Answer 503 while the first model loads, else 200."""
        states = {model.state for model in self._engine.models()}
        if ModelState.LOADING in states and ModelState.READY not in states:
            return json_response({"status": "loading"}, 503)
        return json_response({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """Answer in the text format of Prometheus."""
        return Response("".join(self._metrics()), media_type=PROMETHEUS)

    async def system(self, request: Request) -> Response:
        """Answer what the server runs on; finding that out may take a moment."""
        return json_response(await to_thread.run_sync(self._system_info))

    def _metrics(self) -> Iterator[str]:
        counters = self._engine.counters
        yield _head("requests_total", "counter", "Requests that ended, by reason or error code.")
        for reason, count in sorted(counters.requests.items()):
            yield _sample("requests_total", count, reason=reason)
        for name, count, text in (
            ("prompt_tokens_total", counters.prompt_tokens, "Tokens of prompts."),
            ("cached_tokens_total", counters.cached_tokens, "Tokens of prompts not read again."),
            ("completion_tokens_total", counters.completion_tokens, "Tokens of answers."),
        ):
            yield _head(name, "counter", text) + _sample(name, count)
        activity = self._engine.activity()
        yield _head("requests_running", "gauge", "Requests being decoded.")
        for model in activity:
            yield _sample("requests_running", model.running, model=model.model)
        yield _head("requests_queued", "gauge", "Requests that wait.")
        for model in activity:
            yield _sample("requests_queued", model.queued, model=model.model)
        yield _head("model_state", "gauge", "1 for the state that a model is in.")
        for status in self._engine.models():
            for state in ModelState:
                is_in_it = int(status.state is state)
                yield _sample("model_state", is_in_it, model=status.id, state=state.value)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP tabagent_{name} {text}\n# TYPE tabagent_{name} {kind}\n"


def _sample(name: str, value: int, **labels: str) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"tabagent_{name}{{{pairs}}} {value}\n" if pairs else f"tabagent_{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
