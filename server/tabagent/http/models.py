"""Routes that show, load and unload models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from starlette.routing import Route

from tabagent.protocols.answer_fields import ModelObject, model_object
from tabagent.protocols.wire import decode

from .access import principal_of, read_body
from .errors import json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from tabagent.core.engine import Engine

__all__ = ["ModelList", "ModelName", "ModelRoutes"]


class ModelList(Struct):
    """Every model that this server knows."""

    data: list[ModelObject]
    object: Literal["list"] = "list"


class ModelName(Struct):
    """Body of `POST /v1/models/load` and `/v1/models/unload`."""

    model: str


class ModelRoutes:
    """What `/v1/models` and the paths below it answer."""

    def __init__(self, engine: Engine, max_body_size: int) -> None:
        self._engine = engine
        self._max_body_size = max_body_size

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/models", self.list_models),
            Route("/v1/models/load", self.load, methods=["POST"]),
            Route("/v1/models/unload", self.unload, methods=["POST"]),
            Route("/v1/models/{model:path}", self.show),
        ]

    async def list_models(self, request: Request) -> Response:
        """Show every model."""
        return json_response(ModelList([model_object(model) for model in self._engine.models()]))

    async def show(self, request: Request) -> Response:
        """Show one model."""
        return json_response(model_object(self._engine.model(request.path_params["model"])))

    async def load(self, request: Request) -> Response:
        """Load a model and show it once it is ready."""
        return json_response(model_object(await self._engine.load(await self._named(request))))

    async def unload(self, request: Request) -> Response:
        """Unload a model and show it."""
        return json_response(model_object(await self._engine.unload(await self._named(request))))

    async def _named(self, request: Request) -> str:
        principal_of(request).require("manage")
        return decode(await read_body(request, self._max_body_size), ModelName).model
