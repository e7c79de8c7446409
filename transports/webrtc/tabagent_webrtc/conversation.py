"""How offers and answers travel over a WebSocket, for those who have one and no HTTP."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect
from tabagent.core.access import SUBPROTOCOL, Caller
from tabagent.core.errors import ProtocolError, TabagentError
from tabagent.core.ice import IceServer
from tabagent.protocols.wire import ErrorBody, ErrorObject, decode, encode, error_object, invalid

if TYPE_CHECKING:
    from starlette.websockets import WebSocket
    from tabagent.core.requests import Principal

    from .listener import WebRTCListener

__all__ = ["Conversation", "configuration", "read_session"]

JSON: Final = "application/json"


class Configuration(Struct, frozen=True, rename="camel"):
    """What a browser's `RTCPeerConnection` is made with."""

    ice_servers: list[IceServer]
    ice_transport_policy: str


class Candidate(Struct, frozen=True, rename="camel"):
    """A browser's `RTCIceCandidateInit`; an empty or absent candidate is the end of them."""

    candidate: str = ""
    sdp_mid: str | None = None
    sdp_m_line_index: int | None = None


class Message(Struct, frozen=True):
    """Any message of a client: `rtc.offer`, `rtc.candidate` or `rtc.hangup`."""

    type: str
    id: str | UnsetType = UNSET
    sdp: str = ""
    session: msgspec.Raw | None = None
    call_id: str = ""
    candidate: Candidate | None = None


class Reply(Struct, frozen=True):
    """`rtc.configuration` first, then one `rtc.answer`, `rtc.hangup` or `error` per message."""

    type: Literal["rtc.configuration", "rtc.answer", "rtc.hangup", "error"]
    id: str | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    sdp: str | UnsetType = UNSET
    configuration: Configuration | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


def configuration(listener: WebRTCListener, principal: Principal) -> Configuration:
    """Return how a peer of `principal` is to connect."""
    policy = listener.context.ice.transport_policy
    return Configuration(listener.ice_servers(principal), policy)


def read_session(session: bytes | msgspec.Raw | None) -> dict[str, Any]:
    """Return the session that was handed over with an offer.

    :raises RequestError: `invalid_parameter` when it is no JSON object.
    """
    if session is None:
        return {}
    try:
        fields: dict[str, Any] = msgspec.json.decode(session, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise invalid("session", str(error)) from None
    return fields


class Conversation:
    """One signalling WebSocket. The calls that it starts outlive it."""

    def __init__(self, listener: WebRTCListener, websocket: WebSocket) -> None:
        self._listener = listener
        self._websocket = websocket
        scope = websocket.scope
        self._caller = Caller.from_headers(
            "GET", scope["headers"], scheme=scope["scheme"], upgrade=True
        )

    @classmethod
    async def accept(cls, listener: WebRTCListener, websocket: WebSocket) -> None:
        """Judge the caller, then serve the socket to its end; a refusal is an HTTP response."""
        conversation = cls(listener, websocket)
        try:
            principal = conversation._judge()
        except TabagentError as error:
            body = encode(ErrorBody(error_object(error)))
            await websocket.send_denial_response(Response(body, error.status, media_type=JSON))
            return
        offered = websocket.scope["subprotocols"]
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        with suppress(WebSocketDisconnect, RuntimeError):  # the latter once the server closes
            await conversation._run(configuration(listener, principal))

    async def _run(self, first: Configuration) -> None:
        await self._send(Reply("rtc.configuration", configuration=first))
        while True:
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            reply = await self._reply_to(event.get("text") or event["bytes"])
            if reply is not None:
                await self._send(reply)

    async def _reply_to(self, text: str | bytes) -> Reply | None:
        id_: str | UnsetType = UNSET
        try:
            message = decode(text, Message)
            id_ = message.id
            # Anew each time: the approval of an origin may end while the socket is open.
            return await self._carry_out(message, self._judge())
        except TabagentError as error:
            return Reply("error", id_, error=error_object(error))

    async def _carry_out(self, message: Message, principal: Principal) -> Reply | None:
        if message.type == "rtc.offer":
            access = self._listener.context.access
            opening = {**access.session_of(self._caller), **read_session(message.session)}
            call = await self._listener.answer(message.sdp.encode(), principal, opening)
            return Reply("rtc.answer", message.id, call.id, call.sdp)
        if message.type not in ("rtc.candidate", "rtc.hangup"):
            raise ProtocolError("unknown_type", f"there is no message {message.type[:100]!r}")
        peer = self._listener.find(message.call_id, principal)
        if peer is None:
            raise invalid("call_id", "there is no such call")
        if message.type == "rtc.hangup":
            peer.hang_up()
            return Reply("rtc.hangup", message.id, peer.id)
        if (found := message.candidate) is not None:
            await peer.add_candidate(found.candidate, found.sdp_mid, found.sdp_m_line_index)
        return None

    async def _send(self, reply: Reply) -> None:
        await self._websocket.send_text(encode(reply))

    def _judge(self) -> Principal:
        principal = self._listener.context.access.judge(self._caller)
        principal.require("infer")
        return principal
