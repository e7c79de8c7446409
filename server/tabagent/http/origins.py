"""Routes of the origins: who may call, who asks to, approve and revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from starlette.routing import Route

from tabagent.protocols.wire import decode

from .access import principal_of, read_body
from .errors import json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from tabagent.core.origins import OriginRegistry

__all__ = ["OriginName", "OriginRoutes"]


class OriginName(Struct):
    """Body of the routes that change an origin: the origin, or its pairing code."""

    origin: str


class OriginRoutes:
    """What `/v1/origins` and the routes below it answer; all need the scope `manage`."""

    def __init__(self, origins: OriginRegistry, max_body_size: int) -> None:
        self._origins = origins
        self._max_body_size = max_body_size

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/origins", self.show),
            Route("/v1/origins/approve", self.approve, methods=["POST"]),
            Route("/v1/origins/revoke", self.revoke, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show what is approved and what is pending."""
        principal_of(request).require("manage")
        return json_response(self._origins.list())

    async def approve(self, request: Request) -> Response:
        """Approve an origin and show what is known then."""
        self._origins.approve(await self._named(request))
        return await self._saved()

    async def revoke(self, request: Request) -> Response:
        """Revoke an origin and show what is known then."""
        self._origins.revoke(await self._named(request))
        return await self._saved()

    async def _saved(self) -> Response:
        await self._origins.save()
        return json_response(self._origins.list())

    async def _named(self, request: Request) -> str:
        principal_of(request).require("manage")
        return decode(await read_body(request, self._max_body_size), OriginName).origin
