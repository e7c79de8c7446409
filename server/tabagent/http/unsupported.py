"""Routes of the contract whose feature is not there: they say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from tabagent.core.errors import RequestError

from .access import principal_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["TRANSPORTS", "UNSUPPORTED", "unsupported_routes"]

UNSUPPORTED = {
    "/v1/embeddings": "infer",
    "/v1/rerank": "infer",
    "/v1/realtime/calls": "infer",
}
"""`POST` paths and the scope that each needs."""


TRANSPORTS = {"/v1/realtime/calls": "webrtc"}
"""Of these, the paths that are a transport's; where it is there its own routes come first."""


def unsupported_routes(absent_transports: Mapping[str, str]) -> list[Route]:
    """Return the routes; `absent_transports` says by name why a transport is not there."""

    async def refuse(request: Request) -> Response:
        path = request.url.path
        principal_of(request).require(UNSUPPORTED[path])
        reason = absent_transports.get(TRANSPORTS.get(path, ""))
        text = f"{path} is not supported"
        raise RequestError("not_supported", f"{text}: {reason}" if reason else text)

    return [Route(path, refuse, methods=["POST"]) for path in UNSUPPORTED]
