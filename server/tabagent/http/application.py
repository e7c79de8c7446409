"""Puts the routes together into one ASGI application."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from tabagent.protocols.chat import ChatProtocol
from tabagent.protocols.completions import CompletionsProtocol
from tabagent.protocols.response_exchange import ResponsesExchange

from .access import AccessMiddleware
from .errors import exception_handlers
from .generation import GenerationRoute
from .library import LibraryRoutes
from .models import ModelRoutes
from .openapi import openapi
from .origins import OriginRoutes
from .page import page_routes
from .realtime import RealtimeRoutes
from .status import StatusRoutes
from .unsupported import unsupported_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Lifespan

    from tabagent.core.access import AccessPolicy
    from tabagent.core.engine import Engine
    from tabagent.core.library import ModelLibrary
    from tabagent.core.origins import OriginRegistry

__all__ = ["build_app"]

MAX_BODY_SIZE = 1024 * 1024
"""Bytes of one request body, as many as of one message on a duplex connection."""

KEEP_ALIVE_INTERVAL = 5.0
"""Seconds of silence after which a stream sends a comment."""


def build_app(
    engine: Engine,
    *,
    access: AccessPolicy,
    system_info: Callable[[], Mapping[str, Any]],
    origins: OriginRegistry | None = None,
    library: ModelLibrary | None = None,
    listener_routes: Sequence[BaseRoute] = (),
    absent_transports: Mapping[str, str] = MappingProxyType({}),
    max_body_size: int = MAX_BODY_SIZE,
    keep_alive_interval: float = KEEP_ALIVE_INTERVAL,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """Return the application that serves `engine` over HTTP.

    :param access: Judges each HTTP request; listeners judge their upgrades themselves.
    :param system_info: Gives the answer of `GET /v1/system`; it may block.
    :param origins: Who is approved; without it there are no routes that show and change it.
    :param library: What pulls and deletes models; without it there are no routes that do.
    :param listener_routes: Routes of the listeners, which come before our own.
    :param absent_transports: Why a transport is not there, by its name.
    """
    generation = partial(
        GenerationRoute,
        engine,
        max_body_size=max_body_size,
        keep_alive_interval=keep_alive_interval,
    )
    routes: list[BaseRoute] = [
        *listener_routes,
        Route("/v1/chat/completions", generation(ChatProtocol), methods=["POST"]),
        Route("/v1/completions", generation(CompletionsProtocol), methods=["POST"]),
        Route("/v1/responses", generation(ResponsesExchange), methods=["POST"]),
        *(LibraryRoutes(library, max_body_size, keep_alive_interval).routes() if library else ()),
        *ModelRoutes(engine, max_body_size).routes(),
        *(OriginRoutes(origins, max_body_size).routes() if origins else ()),
        *RealtimeRoutes(access).routes(),
        *StatusRoutes(engine, system_info).routes(),
        Route("/openapi.json", openapi),
        *page_routes(),
        *unsupported_routes(absent_transports),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(AccessMiddleware, policy=access)],
        exception_handlers=exception_handlers(),
        lifespan=lifespan,
    )
