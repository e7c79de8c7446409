from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from starlette.routing import Route
from tabagent.core.access import AccessPolicy
from tabagent.core.backend import ModelSpec
from tabagent.core.errors import HTTP_STATUS
from tabagent.http import build_app
from tabagent.http.openapi import description
from tabagent.http.page import FILES
from tabagent.model_folder import ModelFolder
from tabagent.protocols.chat import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tabagent.core.engine import Engine
    from tabagent.origins import OriginStore

    from tests.http.client import Client

pytestmark = pytest.mark.anyio


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in description()["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_it_is_served(client: Client) -> None:
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == msgspec.to_builtins(description())
    assert answer.json["openapi"] == "3.1.0"


async def test_it_describes_exactly_the_routes_there_are(
    engine: Engine, origins: OriginStore
) -> None:
    library = ModelFolder(Path("models"), engine, lambda model: ModelSpec(model.id, "", "scripted"))
    app = build_app(
        engine, access=AccessPolicy(), system_info=dict, origins=origins, library=library
    )
    routes = set()
    for route in app.routes:
        assert isinstance(route, Route)
        path = route.path.replace(":path", "")
        if path == "/" or path not in FILES:
            routes |= {(path, method) for method in route.methods or () if method != "HEAD"}
    assert {(path, method) for path, method, _ in operations()} == routes


def test_every_reference_leads_somewhere() -> None:
    document = description()
    found = set(references(document))
    assert found
    for reference in found:
        value: Any = document
        for key in reference.removeprefix("#/").split("/"):
            value = value[key]
        assert isinstance(value, dict)


def test_every_operation_has_a_name_of_its_own_an_answer_and_an_error() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for path, method, operation in operations():
        assert operation["responses"]["default"]["$ref"].endswith("/Error"), path
        assert ("requestBody" in operation) == (
            method == "POST" and bool({"200", "201"} & operation["responses"].keys())
        )


def test_parameters_in_a_path_are_declared() -> None:
    for path, _, operation in operations():
        declared = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_every_field_of_a_request_is_described() -> None:
    schema = description()["components"]["schemas"]["ChatRequest"]
    assert set(schema["properties"]) == {
        field.name for field in msgspec.structs.fields(ChatRequest)
    }
    assert schema["required"] == ["messages"]
    assert {"top_k", "min_p", "seed", "return_token_ids"} <= set(schema["properties"])


def test_the_error_names_every_code() -> None:
    text = description()["components"]["responses"]["Error"]["description"]
    assert all(code in text for code in HTTP_STATUS)
