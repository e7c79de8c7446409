"""Every refusal and failure as an OpenAI error body with a code of the contract."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tabagent.core.errors import TabagentError
from tabagent.protocols.wire import ErrorBody, ErrorObject, encode, error_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

__all__ = ["JSON", "error_response", "exception_handlers", "json_response"]

JSON = "application/json"


def json_response(value: object, status: int = 200) -> Response:
    """Return `value` as a JSON answer."""
    return Response(encode(value), status, media_type=JSON)


def error_response(error: TabagentError) -> Response:
    """Return the answer for a request that is refused or failed."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.code == "token_required":
        headers["WWW-Authenticate"] = "Bearer"
    return Response(encode(ErrorBody(error_object(error))), error.status, headers, JSON)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, TabagentError)
    return error_response(error)


async def _no_such_route(request: Request, error: Exception) -> Response:
    """Answer for what the router does not know: 404 for a path, 405 for a method."""
    assert isinstance(error, HTTPException)
    text = f"there is no route {request.method} {request.url.path[:200]}"
    body = ErrorBody(ErrorObject(text, "invalid_request_error", "unknown_type"))
    return Response(encode(body), error.status_code, error.headers, JSON)


async def _bug(request: Request, error: Exception) -> Response:
    # The error goes on to the server, which logs it.
    text = "the server failed; its log says why"
    return json_response(ErrorBody(ErrorObject(text, "server_error", "decode_failed")), 500)


def exception_handlers() -> Mapping[Any, Any]:
    """Return what the application does about exceptions, by type."""
    return {TabagentError: _refused, HTTPException: _no_such_route, Exception: _bug}
