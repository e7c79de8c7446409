"""The route that makes client secrets for Realtime sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct, field
from starlette.routing import Route

from tabagent.protocols.realtime_objects import SessionObject
from tabagent.protocols.realtime_session import Session, blamed_in
from tabagent.protocols.wire import decode

from .access import principal_of, read_body
from .errors import json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from tabagent.core.access import AccessPolicy

__all__ = ["ClientSecretObject", "ClientSecretRequest", "RealtimeRoutes"]

MAX_REQUEST_SIZE = 64 * 1024
"""Bytes of a request: what it says of the session is kept as long as the secret."""


class ExpiresAfter(Struct):
    """How long a client secret lets its holder in."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 600


class ClientSecretRequest(Struct):
    """Body of `POST /v1/realtime/client_secrets`; `session` is what a connection begins with."""

    expires_after: ExpiresAfter = field(default_factory=ExpiresAfter)
    session: dict[str, Any] | None = None


class ClientSecretObject(Struct):
    """A client secret: `value` is shown like a token, until `expires_at` (Unix seconds)."""

    value: str
    expires_at: int
    session: SessionObject


class RealtimeRoutes:
    """What `/v1/realtime/client_secrets` answers."""

    def __init__(self, access: AccessPolicy) -> None:
        self._access = access

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/realtime/client_secrets", self.create_secret, methods=["POST"])]

    async def create_secret(self, request: Request) -> Response:
        """Make a client secret and show it."""
        principal = principal_of(request)
        principal.require("infer")
        body = decode(await read_body(request, MAX_REQUEST_SIZE), ClientSecretRequest)
        with blamed_in("session"):
            session = Session.opened(body.session or {})
        secret = self._access.issue_secret(principal, body.expires_after.seconds, body.session)
        shown = ClientSecretObject(secret.value, int(secret.expires_at), session.as_object())
        response = json_response(shown)
        response.headers["Cache-Control"] = "no-store"
        return response
