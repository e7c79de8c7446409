"""The OpenAPI description, generated from the wire types."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from starlette.responses import Response

from tabagent import __version__
from tabagent.core.errors import HTTP_STATUS
from tabagent.core.origins import OriginList
from tabagent.protocols.answer_fields import ModelObject
from tabagent.protocols.chat import ChatChunk, ChatCompletion, ChatRequest
from tabagent.protocols.completions import CompletionRequest, TextCompletion
from tabagent.protocols.response_objects import (
    ContentPartEvent,
    ModelStateEvent,
    OutputItemEvent,
    PromptProgressEvent,
    PullEvent,
    PullProgressEvent,
    QueuedEvent,
    ResponseEvent,
    ResponseObject,
    TextDeltaEvent,
    TextDoneEvent,
)
from tabagent.protocols.response_request import ResponseRequest
from tabagent.protocols.wire import ErrorBody

from .errors import JSON
from .library import DeletedModel, PullBody
from .models import ModelList, ModelName
from .origins import OriginName
from .realtime import ClientSecretObject, ClientSecretRequest
from .unsupported import TRANSPORTS, UNSUPPORTED

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["description", "openapi"]

Json: TypeAlias = dict[str, Any]
Schemas: TypeAlias = dict[Any, Json]

EVENTS: Final = "text/event-stream"
SDP: Final = "application/sdp"
RESPONSE_EVENTS: Final = (
    ResponseEvent,
    OutputItemEvent,
    ContentPartEvent,
    TextDeltaEvent,
    TextDoneEvent,
    QueuedEvent,
    PromptProgressEvent,
    ModelStateEvent,
)
TYPES: Final = (
    ChatRequest,
    ChatCompletion,
    ChatChunk,
    CompletionRequest,
    TextCompletion,
    ResponseRequest,
    ResponseObject,
    *RESPONSE_EVENTS,
    ModelObject,
    ModelList,
    ModelName,
    PullBody,
    PullEvent,
    PullProgressEvent,
    DeletedModel,
    OriginList,
    OriginName,
    ClientSecretRequest,
    ClientSecretObject,
    ErrorBody,
)
INFO: Final = {
    "title": "TabAgent",
    "version": __version__,
    "description": "The local inference server for browsers. Unknown request fields are ignored.",
    "license": {"name": "MIT", "identifier": "MIT"},
}


async def openapi(request: Request) -> Response:
    """Answer `GET /openapi.json`."""
    return Response(_text(), media_type=JSON)


@cache
def _text() -> bytes:
    return msgspec.json.encode(description())


def description() -> Json:
    """Return the OpenAPI 3.1 document."""
    schemas, components = msgspec.json.schema_components(
        TYPES, ref_template="#/components/schemas/{name}"
    )
    schema = dict(zip(TYPES, schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": _generation_paths(schema) | _other_paths(schema),
        "components": {
            "schemas": components,
            "responses": {
                "Error": {
                    "description": f"One of the codes: {', '.join(HTTP_STATUS)}.",
                    "content": {JSON: {"schema": schema[ErrorBody]}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _generation_paths(schema: Schemas) -> Json:
    events = {"anyOf": [schema[kind] for kind in RESPONSE_EVENTS]}
    return {
        "/v1/chat/completions": _post(
            "createChatCompletion",
            "Answer a conversation",
            schema[ChatRequest],
            {JSON: schema[ChatCompletion], EVENTS: schema[ChatChunk]},
        ),
        "/v1/completions": _post(
            "createCompletion",
            "Continue a text or a list of token ids",
            schema[CompletionRequest],
            {JSON: schema[TextCompletion], EVENTS: schema[TextCompletion]},
        ),
        "/v1/responses": _post(
            "createResponse",
            "Answer a conversation, told as Responses events",
            schema[ResponseRequest],
            {JSON: schema[ResponseObject], EVENTS: events},
        ),
    }


def _other_paths(schema: Schemas) -> Json:
    model, name = {JSON: schema[ModelObject]}, schema[ModelName]
    object_, text = {JSON: {"type": "object"}}, {"type": "string"}
    show_model = _get("showModel", "Show one model", model)
    show_model["get"]["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": text}
    ]
    show_model["delete"] = _operation("deleteModel", "Delete a model", {JSON: schema[DeletedModel]})
    show_model["delete"]["parameters"] = show_model["get"]["parameters"]
    health = _get("checkHealth", "Say whether the first model is ready", object_)
    health["get"]["responses"]["503"] = _answer("The first model is loading.", object_)
    origins, origin = {JSON: schema[OriginList]}, schema[OriginName]
    return {
        "/v1/origins": _get("listOrigins", "Show who may call, and who asks to", origins),
        "/v1/origins/approve": _post("approveOrigin", "Let an origin infer", origin, origins),
        "/v1/origins/revoke": _post("revokeOrigin", "Let an origin in no longer", origin, origins),
        "/v1/realtime/client_secrets": _post(
            "createClientSecret",
            "Make a short-lived key for a Realtime session",
            schema[ClientSecretRequest],
            {JSON: schema[ClientSecretObject]},
        ),
        "/v1/models": _get("listModels", "Show every model", {JSON: schema[ModelList]}),
        "/v1/models/{model}": show_model,
        "/v1/models/load": _post("loadModel", "Load a model and wait for it", name, model),
        "/v1/models/unload": _post("unloadModel", "Unload a model", name, model),
        "/v1/models/pull": _post(
            "pullModel",
            "Download a model",
            schema[PullBody],
            model | {EVENTS: {"anyOf": [schema[PullProgressEvent], schema[PullEvent]]}},
        ),
        "/v1/system": _get("showSystem", "Show what the server runs on", object_),
        "/health": health,
        "/metrics": _get("showMetrics", "Show counters for Prometheus", {"text/plain": text}),
        "/openapi.json": _get("describe", "Show this document", object_),
        "/": _get("showPage", "Show the playground", {"text/html": text}),
        **{path: _unsupported(path) for path in UNSUPPORTED if path not in TRANSPORTS},
        "/v1/realtime/calls": _call(),
    }


def _get(operation: str, summary: str, content: Json) -> Json:
    return {"get": _operation(operation, summary, content)}


def _post(operation: str, summary: str, body: Json, content: Json) -> Json:
    described = _operation(operation, summary, content)
    described["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return {"post": described}


def _call() -> Json:
    sdp = {SDP: {"schema": {"type": "string"}}}
    described = _operation("createCall", "Answer a WebRTC offer", {})
    described["requestBody"] = {"required": True, "content": sdp}
    described["responses"] = {
        "201": _answer("The answer; its Location is deleted to hang up", sdp),
        "default": described["responses"]["default"],
    }
    return {"post": described}


def _unsupported(path: str) -> Json:
    name = path.removeprefix("/v1/").replace("/", "_")
    refusal = {"default": {"$ref": "#/components/responses/Error"}}
    return {"post": {"operationId": name, "summary": "Not supported", "responses": refusal}}


def _operation(operation: str, summary: str, content: Json) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": _answer(summary, content),
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _answer(text: str, content: Json) -> Json:
    media = {media_type: {"schema": schema} for media_type, schema in content.items()}
    return {"description": text, "content": media}
