"""The chat page: static files that come with the package."""

from __future__ import annotations

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
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path to file name and media type."""


def page_routes() -> list[Route]:
    """Return the routes."""
    folder = resources.files(__package__) / "static"
    return [_route(path, folder / name, media_type) for path, (name, media_type) in FILES.items()]


def _route(path: str, file: Traversable, media_type: str) -> Route:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        content = await to_thread.run_sync(file.read_bytes)
        return Response(content, headers=headers, media_type=media_type)

    return Route(path, serve)
