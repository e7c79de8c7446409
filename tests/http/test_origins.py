"""Pairing over HTTP: the refusal names the code, and who manages the server approves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tabagent.core.access import AccessPolicy

from tests.http.conftest import serve

if TYPE_CHECKING:
    from tabagent.core.engine import Engine
    from tabagent.origins import OriginStore

    from tests.http.client import Client

pytestmark = pytest.mark.anyio

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
CALLER = {"origin": EXTENSION}
CHAT = "/v1/chat/completions"


@pytest.fixture
async def client(engine: Engine, origins: OriginStore) -> Client:
    return serve(engine, AccessPolicy(registry=origins), origins)


async def test_an_extension_pairs(client: Client) -> None:
    refused = await client.post(CHAT, {}, CALLER)
    error = refused.json["error"]
    assert (refused.status, error["code"]) == (403, "origin_not_allowed")
    assert error["reason"] == "approval_pending"
    assert error["pairing_code"] in error["message"]
    assert "access-control-allow-origin" not in refused.headers

    [pending] = (await client.get("/v1/origins")).json["pending"]
    assert (pending["origin"], pending["code"]) == (EXTENSION, error["pairing_code"])
    answer = await client.post("/v1/origins/approve", {"origin": pending["code"]})
    assert answer.json == {"approved": [{"origin": EXTENSION, "by": "user"}], "pending": []}

    let_in = await client.get("/v1/models", CALLER)
    assert let_in.status == 200
    assert let_in.headers["access-control-allow-origin"] == EXTENSION

    answer = await client.post("/v1/origins/revoke", {"origin": EXTENSION})
    assert answer.json == {"approved": [], "pending": []}
    assert (await client.get("/v1/models", CALLER)).status == 403


async def test_a_page_gets_no_code(client: Client) -> None:
    answer = await client.post(CHAT, {}, {"origin": "https://page.example"})
    assert answer.error == (403, "origin_not_allowed", None)
    assert (await client.get("/v1/origins")).json["pending"] == []


async def test_an_approved_origin_may_approve_nobody(client: Client, origins: OriginStore) -> None:
    origins.approve(EXTENSION)
    for answer in (
        await client.get("/v1/origins", CALLER),
        await client.post("/v1/origins/approve", {"origin": "https://a.test"}, CALLER),
        await client.post("/v1/origins/revoke", {"origin": EXTENSION}, CALLER),
    ):
        assert answer.error == (403, "scope_required", None)


@pytest.mark.parametrize(
    ("body", "param"), [({}, "origin"), ({"origin": "*"}, "origin"), ({"origin": 5}, "origin")]
)
async def test_wrong_names_are_refused(client: Client, body: object, param: str) -> None:
    for verb in ("approve", "revoke"):
        answer = await client.post(f"/v1/origins/{verb}", body)
        assert answer.error == (400, "invalid_parameter", param)
