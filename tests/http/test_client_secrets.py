"""`POST /v1/realtime/client_secrets`: its shape, its bounds, and what a secret opens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from tabagent.core.access import AccessPolicy

from tests.http.conftest import serve

if TYPE_CHECKING:
    from tabagent.core.engine import Engine

    from tests.http.client import Client

pytestmark = pytest.mark.anyio

PATH = "/v1/realtime/client_secrets"
SESSION = {"type": "realtime", "model": "m", "instructions": "Rhyme."}


@pytest.fixture
async def client(engine: Engine) -> Client:
    return serve(engine, AccessPolicy(token="t", require_token=True))


BEARER = {"authorization": "Bearer t"}


async def test_a_secret_is_made_and_its_session_shown(client: Client) -> None:
    before = int(time.time())
    answer = await client.post(PATH, {"session": SESSION}, BEARER)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["value"].startswith("ek_")
    assert before + 600 <= answer.json["expires_at"] <= int(time.time()) + 600
    assert answer.json["session"].items() >= SESSION.items()


async def test_its_life_is_chosen(client: Client) -> None:
    body = {"expires_after": {"anchor": "created_at", "seconds": 7200}}
    before = int(time.time())
    assert (await client.post(PATH, body, BEARER)).json["expires_at"] >= before + 7200


async def test_a_secret_infers_but_does_not_manage_or_make_another(client: Client) -> None:
    value = (await client.post(PATH, {}, BEARER)).json["value"]
    shown = {"authorization": f"Bearer {value}"}
    assert (await client.get("/v1/models", shown)).status == 200
    load = await client.post("/v1/models/load", {"model": "m"}, shown)
    assert load.error == (403, "scope_required", None)
    assert (await client.post(PATH, {}, shown)).error == (403, "scope_required", None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], (400, "invalid_message", None)),
        ({"expires_after": {"seconds": 9}}, (400, "invalid_parameter", "expires_after.seconds")),
        ({"expires_after": {"seconds": 7201}}, (400, "invalid_parameter", "expires_after.seconds")),
        ({"expires_after": {"anchor": "x"}}, (400, "invalid_parameter", "expires_after.anchor")),
        ({"session": {"model": 1}}, (400, "invalid_parameter", "session.model")),
        ({"session": {"type": "transcription"}}, (501, "not_supported", "session.type")),
        ({"session": {"tools": [{}]}}, (501, "not_supported", "session.tools")),
        ({"session": {"instructions": "x" * 70_000}}, (413, "message_too_big", None)),
    ],
)
async def test_a_wrong_request_is_refused(client: Client, body: Any, error: Any) -> None:
    assert (await client.post(PATH, body, BEARER)).error == error
