"""`tabagent origins`, beside a running server and without one."""

from __future__ import annotations

import http.client
import json
import signal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets import ConnectionClosed, Origin
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done, Process

    Run = Callable[..., Done]
    Start = Callable[..., Process]

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
PAGE = "https://page.example"
NOTHING: dict[str, Any] = {"approved": [], "pending": []}


def listed(run: Run) -> Any:
    return json.loads(run("origins", "list", "--json").out)


def test_without_a_server_the_file_is_edited(run: Run, home: Path) -> None:
    assert listed(run) == NOTHING
    assert PAGE in run("origins", "approve", PAGE).out
    assert listed(run)["approved"] == [{"origin": PAGE, "by": "user"}]
    assert json.loads((home / "origins.json").read_text())["approved"] == [PAGE]
    assert run("origins", "revoke", PAGE).code == 0
    assert listed(run) == NOTHING


def test_wrong_names_are_usage_errors(run: Run) -> None:
    for command, name in (("approve", "*"), ("approve", "ABC-DEF"), ("revoke", PAGE)):
        done = run("origins", command, name)
        assert done.code == 2
        assert done.err.startswith("tabagent: invalid_parameter: origin: ")


def test_settings_are_listed_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABAGENT_ALLOW_ORIGIN", PAGE)
    assert listed(run)["approved"] == [{"origin": PAGE, "by": "setting"}]
    assert "approved by setting" in run("origins", "list").out


def call(url: str) -> tuple[int, dict[str, Any]]:
    """Call as the extension does."""
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=30)
    connection.request("GET", "/v1/models", headers={"Origin": EXTENSION})
    response = connection.getresponse()
    body: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, body


def test_a_running_server_takes_an_approval_at_once(
    run: Run, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start("serve", "--no-model", "--port", "0")
    url = server.url()
    status, body = call(url)
    assert status == 403
    monkeypatch.setenv("TABAGENT_PORT", str(urlsplit(url).port))
    [pending] = listed(run)["pending"]
    assert (pending["origin"], pending["code"]) == (EXTENSION, body["error"]["pairing_code"])
    assert "pending" in run("origins", "list").out
    assert run("origins", "approve", pending["code"]).code == 0
    assert call(url)[0] == 200
    server.end(signal.SIGTERM)
    monkeypatch.setenv("TABAGENT_PORT", "9")
    assert listed(run)["approved"] == [{"origin": EXTENSION, "by": "user"}]


def test_a_running_server_sees_what_others_write(run: Run, start: Start) -> None:
    url = start("serve", "--no-model", "--port", "0").url()
    assert call(url)[0] == 403
    run("origins", "approve", EXTENSION)  # finds no server at its port, and edits the file
    while call(url)[0] == 403:
        pass


def test_taking_an_approval_back_ends_the_connections_that_rest_on_it(
    run: Run, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start("serve", "--no-model", "--port", "0").url()
    monkeypatch.setenv("TABAGENT_PORT", str(urlsplit(url).port))
    run("origins", "approve", EXTENSION)
    address = url.replace("http", "ws", 1) + "/v1/responses"
    with connect(address, origin=Origin(EXTENSION)) as revoked, connect(address) as other:
        assert run("origins", "revoke", EXTENSION).code == 0
        with pytest.raises(ConnectionClosed):
            revoked.recv(30)
        assert call(url)[0] == 403
        other.send("{}")
        assert "invalid_message" in str(other.recv(30))
