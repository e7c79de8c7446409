"""How offers and answers travel over HTTP: as OpenAI's Realtime clients and WHIP have it."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from tabagent.core.access import Caller
from tabagent.core.body import join_body
from tabagent.core.errors import ProtocolError
from tabagent.protocols.wire import encode, invalid

from .conversation import Conversation, configuration, read_session

if TYPE_CHECKING:
    from starlette.requests import Request
    from tabagent.core.ice import IceServer
    from tabagent.core.requests import Principal

    from .listener import WebRTCListener

__all__ = ["Signalling"]

PATH: Final = "/v1/realtime/calls"
SDP: Final = "application/sdp"
FORM: Final = "multipart/form-data"
JSON: Final = "application/json"
MAX_BODY_SIZE: Final = 64 * 1024
"""Bytes of an offer and its session."""


class Signalling:
    """The routes of a listener; the application judges who calls over HTTP, and writes errors."""

    def __init__(self, listener: WebRTCListener) -> None:
        self._listener = listener

    def routes(self) -> list[Any]:
        """Return the routes."""
        call = PATH + "/{call_id}"
        return [
            Route(PATH, self.configuration, methods=["GET"]),
            Route(PATH, self.offer, methods=["POST"]),
            Route(call, self.hang_up, methods=["DELETE"]),
            Route(f"{call}/hangup", self.hang_up, methods=["POST"]),
            WebSocketRoute(PATH, partial(Conversation.accept, self._listener)),
        ]

    async def configuration(self, request: Request) -> Response:
        """Answer the ICE servers, with credentials, before there is an offer."""
        principal = _principal_of(request)
        principal.require("infer")
        found = encode(configuration(self._listener, principal))
        return Response(found, media_type=JSON, headers={"Cache-Control": "no-store"})

    async def offer(self, request: Request) -> Response:
        """Answer an offer with 201, the call's `Location`, and the ICE servers as `Link`s."""
        principal = _principal_of(request)
        principal.require("infer")
        body = await join_body(request.stream(), MAX_BODY_SIZE)
        offer, session = _read_body(request.headers.get("content-type", ""), body)
        scope = request.scope
        caller = Caller.from_headers("POST", scope["headers"], scheme=scope["scheme"])
        opening = {
            **self._listener.context.access.session_of(caller),
            **({"model": wanted} if (wanted := request.query_params.get("model")) else {}),
            **read_session(session),
        }
        call = await self._listener.answer(offer, principal, opening)
        response = Response(call.sdp, 201, {"Location": f"{PATH}/{call.id}"}, SDP)
        for server in self._listener.ice_servers(principal):
            response.headers.append("Link", _link(server))
        return response

    async def hang_up(self, request: Request) -> Response:
        """End a call of the caller."""
        peer = self._listener.find(request.path_params["call_id"], _principal_of(request))
        if peer is None:
            raise HTTPException(404)
        peer.hang_up()
        return Response(status_code=200)


def _principal_of(request: Request) -> Principal:
    principal: Principal = request.state.principal  # put there by the application
    return principal


def _read_body(content_type: str, body: bytes) -> tuple[bytes, bytes | None]:
    """Return the offer and, from a form, the session."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == SDP:
        return body, None
    if media_type != FORM:
        raise ProtocolError("invalid_message", f"the content type must be {SDP} or {FORM}")
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    parts: dict[Any, bytes] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            parts[name] = content
    if "sdp" not in parts:
        raise invalid("sdp", "this field is required")
    return parts["sdp"], parts.get("session")


def _link(server: IceServer) -> str:
    """Return a server as RFC 9725 writes it; its parts hold no quotes."""
    fields = [f"<{server.urls}>", 'rel="ice-server"']
    if server.username is not None:
        fields += [f'username="{server.username}"', f'credential="{server.credential}"']
        fields += ['credential-type="password"']
    return "; ".join(fields)
