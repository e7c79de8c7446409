from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tabagent.core.access import AccessPolicy
from tabagent.http.access import AccessMiddleware

from tests.http.conftest import serve

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send
    from tabagent.core.engine import Engine

    from tests.http.client import Client

pytestmark = pytest.mark.anyio

MODELS = "/v1/models"
CHAT = "/v1/chat/completions"
EXTENSION = "chrome-extension://aaaabbbbccccddddeeeeffffgggghhhh"
STRANGER = "https://evil.example"
OWN = "http://127.0.0.1:8484"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture
async def client(engine: Engine) -> Client:
    return serve(engine, AccessPolicy(origins=[EXTENSION]))


@pytest.fixture
async def guarded(engine: Engine) -> Client:
    """A server that needs its token."""
    policy = AccessPolicy(origins=[EXTENSION], token="secret", require_token=True)
    return serve(engine, policy)


async def test_local_software_is_let_in(client: Client) -> None:
    assert (await client.get(MODELS)).status == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"host": "evil.example"}, 421, "host_not_allowed"),
        ({"host": ""}, 421, "host_not_allowed"),
        ({"origin": STRANGER}, 403, "origin_not_allowed"),
        ({"origin": "null"}, 403, "origin_not_allowed"),
        ({"origin": EXTENSION + "x"}, 403, "origin_not_allowed"),
        ({"sec-fetch-site": "cross-site"}, 403, "origin_not_allowed"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", MODELS), ("POST", CHAT), ("GET", "/"), ("GET", "/health"), ("GET", "/nothing")],
)
async def test_every_route_refuses_the_same_callers(
    client: Client, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await client.request(method, path, {}, headers)
    assert answer.error == (status, code, None)
    assert "access-control-allow-origin" not in answer.headers


async def test_an_approved_origin_gets_its_exact_name_back(client: Client) -> None:
    answer = await client.get(MODELS, {"origin": EXTENSION})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == EXTENSION
    assert "Origin" in answer.headers["vary"]


async def test_an_approved_origin_can_read_its_errors(client: Client) -> None:
    answer = await client.get("/nothing", {"origin": EXTENSION})
    assert answer.status == 404
    assert answer.headers["access-control-allow-origin"] == EXTENSION


@pytest.mark.parametrize("origin", [OWN, ""])
async def test_who_needs_no_cors_headers_gets_none(client: Client, origin: str) -> None:
    answer = await client.get(MODELS, {"origin": origin})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_an_approved_origin_may_ask_first(client: Client, guarded: Client) -> None:
    for server in (client, guarded):  # a preflight never carries a token
        answer = await server.request("OPTIONS", CHAT, headers=PREFLIGHT | {"origin": EXTENSION})
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == EXTENSION
        assert "POST" in answer.headers["access-control-allow-methods"]
        allowed = answer.headers["access-control-allow-headers"]
        assert allowed == PREFLIGHT["access-control-request-headers"]


async def test_a_stranger_may_not_ask_first(client: Client) -> None:
    answer = await client.request("OPTIONS", CHAT, headers=PREFLIGHT | {"origin": STRANGER})
    assert answer.error == (403, "origin_not_allowed", None)
    assert "access-control-allow-origin" not in answer.headers


async def test_options_without_a_preflight_is_an_unknown_method(client: Client) -> None:
    assert (await client.request("OPTIONS", CHAT)).error == (405, "unknown_type", None)


async def test_a_token_is_asked_for_where_one_is_needed(guarded: Client) -> None:
    refused = await guarded.get(MODELS)
    assert refused.error == (401, "token_required", None)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await guarded.get(MODELS, {"authorization": "Bearer wrong"})).status == 401
    assert (await guarded.get(MODELS, {"authorization": "Bearer secret"})).status == 200


@pytest.mark.parametrize("path", ["/", "/playground.js", "/playground.css", "/icon.svg"])
async def test_the_page_in_which_the_token_is_typed_needs_none(guarded: Client, path: str) -> None:
    assert (await guarded.get(path)).status == 200


async def test_the_health_check_needs_no_token(guarded: Client) -> None:
    assert (await guarded.get("/health")).status in {200, 503}


async def test_a_reader_may_look_but_not_generate(client: Client) -> None:
    browser = {"sec-fetch-site": "none"}
    assert (await client.get(MODELS, browser)).status == 200
    assert (await client.post(CHAT, {}, browser)).error[1] == "origin_not_allowed"


async def test_an_approved_origin_may_not_change_models(client: Client) -> None:
    for verb in ("load", "unload"):
        answer = await client.post(f"/v1/models/{verb}", {"model": "m"}, {"origin": EXTENSION})
        assert answer.error == (403, "scope_required", None)


@pytest.mark.parametrize("header", [{"origin": OWN}, {"sec-fetch-site": "same-origin"}])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_browsers_must_send_json(client: Client, header: dict[str, str], kind: str) -> None:
    answer = await client.post(CHAT, {}, header | {"content-type": kind})
    assert answer.error == (400, "invalid_message", None)


async def test_browsers_may_name_the_charset_of_their_json(client: Client) -> None:
    kind = {"origin": OWN, "content-type": "application/json; charset=utf-8"}
    assert (await client.post(CHAT, {}, kind)).error[1] == "invalid_parameter"


async def test_local_software_need_not_name_its_type(client: Client) -> None:
    assert (await client.post(CHAT, {}, {"content-type": ""})).error[1] == "invalid_parameter"


async def test_a_body_is_bounded(engine: Engine) -> None:
    client = serve(engine, max_body_size=100)
    assert (await client.post(CHAT, b"x" * 100)).error[1] == "invalid_message"
    assert (await client.post(CHAT, b"x" * 101)).error == (413, "message_too_big", None)
    assert (await client.post("/v1/models/load", b"x" * 101)).status == 413


async def test_every_answer_carries_the_security_headers(client: Client) -> None:
    for path in ("/", MODELS, "/nothing"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_what_is_no_http_request_passes_to_the_listeners() -> None:
    passed = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def unused(*_: object) -> Any:
        raise AssertionError

    middleware = AccessMiddleware(app, AccessPolicy())
    await middleware({"type": "websocket", "headers": []}, unused, unused)
    assert passed == ["websocket"]
