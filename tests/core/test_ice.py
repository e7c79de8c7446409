"""STUN and TURN servers as settings, and the credentials that peers get."""

from __future__ import annotations

import base64
import hmac

import pytest
from tabagent.app import ice_config
from tabagent.config import Config
from tabagent.core.errors import RequestError
from tabagent.core.ice import IceConfig, IceServer, parse_ice_server


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("stun:stun.test", IceServer("stun:stun.test")),
        ("stun:[::1]:3478", IceServer("stun:[::1]:3478")),
        ("turn:turn.test:3478", IceServer("turn:turn.test:3478")),
        ("turns:t.test?transport=tcp", IceServer("turns:t.test?transport=tcp")),
        ("turn:me:p:w@t.test:1", IceServer("turn:t.test:1", "me", "p:w")),
    ],
)
def test_a_server_is_written_as_one_text(text: str, server: IceServer) -> None:
    assert parse_ice_server(text) == server


@pytest.mark.parametrize(
    "text",
    ["", "turn:", "http://t.test", "turn:me@t.test", "stun:me:pw@s.test", "stun:s?transport=udp"],
)
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"STUN|expected") as caught:
        parse_ice_server(text)
    assert "pw" not in str(caught.value)


def test_a_secret_gives_credentials_that_end() -> None:
    config = IceConfig((parse_ice_server("turn:t.test"),), turn_secret="secret")
    (server,) = config.servers_for("https://page.test", 1_000_000)
    assert server.username is not None
    expiry, name = server.username.split(":")
    assert int(expiry) == 1_000_000 + 3600
    assert "page" not in name
    digest = hmac.digest(b"secret", server.username.encode(), "sha1")
    assert server.credential == base64.b64encode(digest).decode()
    assert config.servers_for("https://other.test", 1_000_000) != [server]


def test_fixed_credentials_and_stun_servers_stay_as_they_are() -> None:
    servers = tuple(map(parse_ice_server, ["stun:s.test", "turn:me:pw@t.test"]))
    assert IceConfig(servers, turn_secret="secret").servers_for("x", 0) == list(servers)


@pytest.mark.parametrize(
    "settings",
    [
        {"ice_server": ("turn:t.test",)},
        {"ice_transport_policy": "relay"},
        {"ice_transport_policy": "relay", "ice_server": ("stun:s.test",)},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        ice_config(Config(**settings))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", "ice_server")
