"""Routes of the contract whose feature is not there: they say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from tabagent.core.errors import RequestError

from .access import principal_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["UNSUPPORTED", "unsupported_routes"]

UNSUPPORTED = {
    "/v1/embeddings": "infer",
    "/v1/rerank": "infer",
    "/v1/models/pull": "manage",
    "/v1/realtime/calls": "infer",
}
"""`POST` paths and the scope that each needs."""


async def _refuse(request: Request) -> Response:
    path = request.url.path
    principal_of(request).require(UNSUPPORTED[path])
    raise RequestError("not_supported", f"{path} is not supported")


def unsupported_routes() -> list[Route]:
    """Return the routes."""
    return [Route(path, _refuse, methods=["POST"]) for path in UNSUPPORTED]
