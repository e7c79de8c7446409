"""Accepts WebSockets, one path per protocol."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from tabagent.core.access import SUBPROTOCOL, Caller
from tabagent.core.errors import RequestError, TabagentError
from tabagent.core.transport import Listener
from tabagent.protocols.wire import ErrorBody, encode, error_object

from .transport import WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.websockets import WebSocket

__all__ = ["WebSocketListener"]

PROTOCOLS: Final = ("responses", "extension", "realtime")


class WebSocketListener(Listener):
    """Speaks the protocol that the path names.

    Callers are judged before the upgrade is answered; a refusal is an HTTP response.
    """

    name: ClassVar[str] = "ws"

    def routes(self) -> Sequence[Any]:
        """Return the routes that take an upgrade."""
        return [
            WebSocketRoute(f"/v1/{protocol}", partial(self._serve, protocol))
            for protocol in PROTOCOLS
        ]

    async def _serve(self, protocol: str, websocket: WebSocket) -> None:
        scope = websocket.scope
        caller = Caller.from_headers("GET", scope["headers"], scheme=scope["scheme"], upgrade=True)
        access = self.context.access
        try:
            principal = access.judge(caller)
            opening = {**access.session_of(caller), **_wanted(websocket)}
        except TabagentError as error:
            await _refuse(websocket, error)
            return
        offered = scope["subprotocols"]
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        transport = WebSocketTransport(websocket, opening)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.keep_alive, self.context.ping_interval)
            await self.context.handle(transport, protocol, principal)
            tasks.cancel_scope.cancel()


def _wanted(websocket: WebSocket) -> dict[str, Any]:
    """Return what the address asks for."""
    query = websocket.query_params
    if "call_id" in query:
        raise RequestError("not_supported", "calls take no second connection", param="call_id")
    return {"model": query["model"]} if "model" in query else {}


async def _refuse(websocket: WebSocket, error: TabagentError) -> None:
    body = encode(ErrorBody(error_object(error)))
    response = Response(body, error.status, media_type="application/json")
    await websocket.send_denial_response(response)
