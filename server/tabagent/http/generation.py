"""Runs one generation over HTTP, as server-sent events or as one body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tabagent.core.requests import GenerateRequest

from .access import principal_of, read_body
from .errors import JSON

if TYPE_CHECKING:
    from anyio import CancelScope
    from starlette.types import Receive, Scope, Send

    from tabagent.core.engine import Engine
    from tabagent.core.stream import EventStream
    from tabagent.protocols.exchange import Exchange

__all__ = ["GenerationRoute"]

KEEP_ALIVE: Final = b": keep-alive\n\n"


class GenerationRoute:
    """An ASGI endpoint that speaks one dialect.

    What is known at admission is refused with its HTTP status. After that a stream sends its
    headers at once, and what goes wrong is its last event; without a stream, a failure still has
    its status. A client that leaves cancels its request.
    """

    def __init__(
        self,
        engine: Engine,
        dialect: type[Exchange],
        *,
        max_body_size: int,
        keep_alive_interval: float,
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._max_body_size = max_body_size
        self._keep_alive_interval = keep_alive_interval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        request = Request(scope, receive)
        principal = principal_of(request)
        principal.require("infer")
        exchange = self._dialect(principal)
        try:
            exchange.receive_message(await read_body(request, self._max_body_size))
        except ClientDisconnect:
            return
        if exchange.error is not None:
            raise exchange.error
        [wanted] = exchange.requests_received()
        assert isinstance(wanted, GenerateRequest)
        async with self._engine.generate(wanted) as events:
            if events.refusal is not None:
                raise events.refusal
            exchange.request_accepted(wanted.request_id, events.model)
            if exchange.stream:
                stream = _ServerSentEvents(exchange, send)
                await stream.run(self._engine, events, receive, self._keep_alive_interval)
            elif await _collect(exchange, events, receive):
                if exchange.error is not None:
                    raise exchange.error
                await Response(exchange.answer(), media_type=JSON)(scope, receive, send)


async def _collect(exchange: Exchange, events: EventStream, receive: Receive) -> bool:
    """Feed all events to the exchange; return whether the client is still there at the end."""
    finished = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
        async for batch in events:
            for event in batch:
                exchange.send_event(event)
        finished = True
        tasks.cancel_scope.cancel()
    return finished


async def _cancel_when_gone(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _ServerSentEvents:
    """One stream to one client."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send
        self._sends = 0
        self._sending = 0

    async def run(
        self, engine: Engine, events: EventStream, receive: Receive, keep_alive_interval: float
    ) -> None:
        """Send headers, events and comments until the end of the answer or of the client."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        finished = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
            tasks.start_soon(self._keep_alive, keep_alive_interval)
            if self._exchange.wants_model_changes:
                tasks.start_soon(self._relay_model_changes, engine)
            await self._flush()
            async for batch in events:
                for event in batch:
                    self._exchange.send_event(event)
                await self._flush()
            finished = True
            tasks.cancel_scope.cancel()
        if finished:
            end = self._exchange.end_of_stream.encode()
            await self._send({"type": "http.response.body", "body": end})

    async def _flush(self) -> None:
        # Sends need no lock: each is whole events, and the server keeps the order of the calls.
        messages = self._exchange.messages_to_send()
        if messages:
            await self._write("".join(map(self._exchange.server_sent_event, messages)).encode())

    async def _write(self, body: bytes) -> None:
        self._sends += 1
        self._sending += 1
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._sending -= 1

    async def _keep_alive(self, interval: float) -> None:
        while True:
            sends = self._sends
            await anyio.sleep(interval)
            if sends == self._sends and not self._sending:
                await self._write(KEEP_ALIVE)

    async def _relay_model_changes(self, engine: Engine) -> None:
        with engine.subscribe() as changes:
            async for batch in changes:
                for change in batch:
                    self._exchange.send_event(change)
                await self._flush()
