"""Routes that pull and delete models."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import anyio
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from tabagent.core.errors import TabagentError
from tabagent.protocols.answer_fields import model_object
from tabagent.protocols.response_objects import ErrorEvent, PullEvent, PullProgressEvent
from tabagent.protocols.wire import decode, encode, error_object

from .access import principal_of, read_body
from .errors import error_response, json_response

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from tabagent.core.events import ModelStatus
    from tabagent.core.library import ModelLibrary

__all__ = ["DeletedModel", "LibraryRoutes", "PullBody"]


class PullBody(Struct):
    """Body of `POST /v1/models/pull`."""

    model: str
    stream: bool = False


class DeletedModel(Struct):
    """Answers `DELETE /v1/models/{model}`."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


class LibraryRoutes:
    """What changes the models on the server's disk."""

    def __init__(
        self, library: ModelLibrary, max_body_size: int, keep_alive_interval: float
    ) -> None:
        self._library = library
        self._max_body_size = max_body_size
        self._keep_alive_interval = keep_alive_interval

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/models/pull", _PullRoute(self), methods=["POST"]),
            Route("/v1/models/{model:path}", self.delete, methods=["DELETE"]),
        ]

    async def delete(self, request: Request) -> Response:
        """Delete a model."""
        principal_of(request).require("manage")
        model_id = request.path_params["model"]
        await self._library.delete(model_id)
        return json_response(DeletedModel(model_id))

    async def pull(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pull a model until it is there or the client is gone."""
        request = Request(scope, receive)
        principal_of(request).require("manage")
        try:
            body = decode(await read_body(request, self._max_body_size), PullBody)
        except ClientDisconnect:
            return
        stream = _ProgressStream(body.model, send) if body.stream else None
        answer: ModelStatus | TabagentError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
            if stream is not None:
                await stream.start()
                tasks.start_soon(stream.run, self._keep_alive_interval)
            try:
                answer = await self._library.pull(body.model, stream.tell if stream else _ignore)
            except TabagentError as error:
                answer = error
            tasks.cancel_scope.cancel()
        if answer is None:
            return
        if stream is not None:
            await stream.end(answer)
        elif isinstance(answer, TabagentError):
            await error_response(answer)(scope, receive, send)
        else:
            await json_response(model_object(answer))(scope, receive, send)


class _PullRoute:
    """An ASGI application of its own: it watches whether the client is still there."""

    def __init__(self, routes: LibraryRoutes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes.pull(scope, receive, send)


class _ProgressStream:
    """Server-sent events of one download; a slow client gets fewer of them."""

    def __init__(self, model: str, send: Send) -> None:
        self._model = model
        self._send = send
        self._last: PullProgressEvent | None = None
        self._told = anyio.Event()

    def tell(self, file: str, done: int, total: int) -> None:
        """Take note of how far the download has come."""
        self._last = PullProgressEvent(self._model, file, done, total)
        self._told.set()

    async def start(self) -> None:
        """Send the headers."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def run(self, keep_alive_interval: float) -> None:
        """Send the latest progress whenever there is some, else a comment now and then."""
        while True:
            with anyio.move_on_after(keep_alive_interval):
                await self._told.wait()
            await self._flush(b": keep-alive\n\n")

    async def end(self, answer: ModelStatus | TabagentError) -> None:
        """Send what has come of it."""
        with suppress(OSError):  # gone at the last moment
            await self._flush(b"")
            if isinstance(answer, TabagentError):
                event: ErrorEvent | PullEvent = ErrorEvent(error_object(answer))
            else:
                event = PullEvent("completed", model_object(answer))
            await self._send({"type": "http.response.body", "body": _event(event)})

    async def _flush(self, otherwise: bytes) -> None:
        last, self._last, self._told = self._last, None, anyio.Event()
        body = otherwise if last is None else _event(last)
        if body:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _event(event: PullProgressEvent | PullEvent | ErrorEvent) -> bytes:
    kind = event.__struct_config__.tag
    return f"event: {kind}\ndata: {encode(event)}\n\n".encode()


def _ignore(file: str, done: int, total: int) -> None:
    """Tell nobody: the client wants the end only."""


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
