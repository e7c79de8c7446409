"""Judges every HTTP request before a route sees it, and answers for approved origins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from tabagent.core.access import Caller
from tabagent.core.body import join_body
from tabagent.core.errors import AccessError, ProtocolError

from .errors import JSON, error_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tabagent.core.access import AccessPolicy
    from tabagent.core.requests import Principal

__all__ = ["AccessMiddleware", "principal_of", "read_body"]

READ_METHODS = frozenset({"GET", "HEAD"})

PUBLIC_PATHS = frozenset({"/", "/health", "/playground.js", "/playground.css", "/icon.svg"})
"""What needs no token: the health check, and the page in which people type theirs."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

PREFLIGHT_MAX_AGE = "600"


class AccessMiddleware:
    """Puts the caller's `Principal` into `request.state.principal`, or refuses the request.

    Upgrades pass: a listener judges its own connections.
    """

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge and pass on one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = self._with_headers(send, headers.get("origin"))
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        caller = Caller.from_headers(
            scope["method"],
            scope["headers"],
            scheme=scope["scheme"],
            read_only=scope["method"] in READ_METHODS,
            public=preflight or scope["path"] in PUBLIC_PATHS,
        )
        app = self._app
        try:
            scope.setdefault("state", {})["principal"] = self._policy.judge(caller)
            if preflight:
                app = _preflight_answer(headers)
        except AccessError as error:
            app = error_response(error)
        await app(scope, receive, send)

    def _with_headers(self, send: Send, origin: str | None) -> Send:
        """Add the security headers and, for an approved origin, its CORS headers."""
        approved = origin is not None and self._policy.allows_origin(origin)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.add_vary_header("Origin")
                if approved:
                    headers["Access-Control-Allow-Origin"] = str(origin)
                    headers["Access-Control-Expose-Headers"] = "Link, Location, Retry-After"
            await send(message)

        return send_with_headers


def _preflight_answer(headers: Headers) -> Response:
    """Allow what is asked: who the caller is has been judged, what it may do is judged later."""
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
            "Access-Control-Max-Age": PREFLIGHT_MAX_AGE,
        },
    )


def principal_of(request: Request) -> Principal:
    """Return who the middleware found the caller to be."""
    principal: Principal = request.state.principal
    return principal


async def read_body(request: Request, max_size: int) -> bytes:
    """Return the JSON body of a request.

    :raises ProtocolError: `message_too_big`; `invalid_message` when a browser sends another type,
        which a page may do without asking first.
    """
    headers = request.headers
    from_browser = any(name == "origin" or name.startswith("sec-fetch-") for name in headers)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if from_browser and media_type != JSON:
        raise ProtocolError("invalid_message", f"the content type must be {JSON}")
    return await join_body(request.stream(), max_size)
