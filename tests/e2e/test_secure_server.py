"""A server that wants a token and speaks TLS only, and the stock SDK as its client."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.e2e.conftest import serving
from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.resources.realtime.realtime import RealtimeConnection

    from tests.gguf_fixtures import ChainModel

TOKEN = "the-token-of-this-server"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation for which `tabagent cert` has made a certificate."""
    home = tmp_path_factory.mktemp("home")
    tabagent(home, "cert")
    return home


def tabagent(home: Path, *arguments: str, **settings: str) -> str:
    """Run a command of this installation; gives what it prints."""
    env = os.environ | {"TABAGENT_HOME": str(home), **settings}
    command = [sys.executable, "-m", "tabagent", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=50)
    return done.stdout


@pytest.fixture(scope="module")
def secure(home: Path, chain_model: ChainModel) -> Iterator[str]:
    """The address of the server."""
    tls = home / "tls"
    flags = ["--tls-cert", str(tls / "cert.pem"), "--tls-key", str(tls / "key.pem")]
    flags += ["--token", TOKEN, "--require-token", "--model", f"chain={chain_model.path}"]
    with serving(home, *flags) as address:
        assert address.startswith("https://")
        yield address


@pytest.fixture
def trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate, as `tabagent cert` says how."""
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "tls" / "cert.pem"))


@contextmanager
def sdk(address: str, key: str) -> Iterator[OpenAI]:
    websocket = address.replace("https", "wss", 1)
    with OpenAI(
        base_url=f"{address}/v1",
        websocket_base_url=f"{websocket}/v1",
        api_key=key,
        max_retries=0,
    ) as client:
        yield client


def answer(connection: RealtimeConnection) -> str:
    """Ask in a session that is open, and return the whole answer."""
    part: Any = {"type": "input_text", "text": "Say it."}
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": [part]})
    connection.response.create()
    while (event := connection.recv()).type != "response.done":
        assert event.type != "error", event
    response: Any = event.response
    return str(response.output[0].content[0].text)


@pytest.mark.usefixtures("trusted")
class TestTheSdk:
    def test_it_speaks_realtime_over_wss_and_chat_over_https(self, secure: str) -> None:
        session: Any = {"type": "realtime", "tabagent": {"temperature": 0}}
        with sdk(secure, TOKEN) as client:
            with client.realtime.connect(model="chain") as connection:
                connection.session.update(session=session)
                assert answer(connection) == KNOWN_ANSWER
            assert [model.id for model in client.models.list()] == ["chain"]

    def test_a_client_secret_opens_the_session_it_was_made_for(self, secure: str) -> None:
        session: Any = {"type": "realtime", "model": "chain", "tabagent": {"temperature": 0}}
        with sdk(secure, TOKEN) as client:
            secret = client.realtime.client_secrets.create(session=session)
        with sdk(secure, secret.value) as client, client.realtime.connect() as connection:
            created: Any = connection.recv()
            assert created.session.model == "chain"
            assert answer(connection) == KNOWN_ANSWER

    def test_browser_code_shows_its_client_secret_as_a_sub_protocol(self, secure: str) -> None:
        with sdk(secure, TOKEN) as client:
            secret = client.realtime.client_secrets.create()
        address = f"{secure.replace('https', 'wss', 1)}/v1/realtime?model=chain"
        offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{secret.value}")]
        origin = Origin("https://app.test")
        with connect(address, subprotocols=offered, origin=origin) as connection:
            assert connection.subprotocol == "realtime"
            created = json.loads(connection.recv(20))
        assert (created["type"], created["session"]["model"]) == ("session.created", "chain")

    def test_a_client_secret_makes_no_other(self, secure: str) -> None:
        with sdk(secure, TOKEN) as client:
            secret = client.realtime.client_secrets.create()
        with sdk(secure, secret.value) as client, pytest.raises(openai.PermissionDeniedError):
            client.realtime.client_secrets.create()

    @pytest.mark.parametrize("key", ["wrong", "ek_wrong"])
    def test_a_wrong_key_opens_nothing(self, secure: str, key: str) -> None:
        with sdk(secure, key) as client, pytest.raises(openai.AuthenticationError):
            client.realtime.client_secrets.create()
        assert upgrade_status(secure, key) == 401


def upgrade_status(address: str, key: str) -> int:
    """Ask for an upgrade by hand: now and then the SDK's blocking client waits on when refused."""
    connection = http.client.HTTPSConnection(urlsplit(address).netloc, timeout=30)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": f"Bearer {key}"}
    with closing(connection):
        connection.request("GET", "/v1/realtime?model=chain", headers=headers)
        return connection.getresponse().status


def test_who_does_not_trust_the_certificate_does_not_connect(secure: str) -> None:
    with sdk(secure, TOKEN) as client, pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_our_own_commands_find_the_server(secure: str, home: Path) -> None:
    tls = home / "tls"
    settings = {
        "TABAGENT_PORT": str(urlsplit(secure).port),
        "TABAGENT_TLS_CERT": str(tls / "cert.pem"),
        "TABAGENT_TOKEN": TOKEN,
    }
    assert "chain" in tabagent(home, "models", "list", "--json", **settings)
    assert "ok" in tabagent(home, "status", "--json", **settings)


def test_plain_http_gets_no_answer(secure: str) -> None:
    parts = urlsplit(secure)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        with suppress(ConnectionResetError):
            received = connection.recv(1024)
    assert not received.startswith(b"HTTP")
