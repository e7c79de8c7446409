"""The playground: static files that come with the package, built from `playground/`."""

from __future__ import annotations

from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from starlette.requests import Request

__all__ = ["page_routes"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only this server's own files; and no text ever becomes HTML or a script."""

HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": CONTENT_SECURITY_POLICY}

FILES = {
    "/": ("index.html", "text/html"),
    "/playground.js": ("playground.js", "text/javascript"),
    "/playground.css": ("playground.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path to file name and media type."""


def page_routes() -> list[Route]:
    """Return the routes."""
    folder = resources.files(__package__) / "static"
    return [_route(path, folder / name, media_type) for path, (name, media_type) in FILES.items()]


def _route(path: str, file: Traversable, media_type: str) -> Route:
    async def serve(request: Request) -> Response:
        content = await to_thread.run_sync(file.read_bytes)
        headers = {**HEADERS, "ETag": f'"{sha256(content).hexdigest()[:16]}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return Route(path, serve)
