"""The server's token."""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tabagent.config import Config, ConfigError, Paths
from tabagent.credentials import client_token, server_token

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.locate({"TABAGENT_HOME": str(tmp_path / "home")})


def test_on_loopback_no_token_is_made(paths: Paths) -> None:
    assert server_token(Config(), paths) is None
    assert not paths.token.exists()


def test_require_token_makes_one_and_keeps_it(paths: Paths) -> None:
    token = server_token(Config(require_token=True), paths)
    assert token is not None
    assert len(token) >= 43  # 256 bits
    assert server_token(Config(require_token=True), paths) == token
    assert client_token(Config(), paths) == token


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_token_file_is_its_users_alone(paths: Paths) -> None:
    server_token(Config(require_token=True), paths)
    assert stat.S_IMODE(paths.token.stat().st_mode) == 0o600


def test_a_given_token_comes_first_then_its_file(paths: Paths, tmp_path: Path) -> None:
    server_token(Config(require_token=True), paths)
    file = tmp_path / "mine"
    file.write_text("from-the-file\n")
    assert server_token(Config(token_file=str(file)), paths) == "from-the-file"
    assert server_token(Config(token="given", token_file=str(file)), paths) == "given"


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"host": "0.0.0.0"}, "host"), ({"trusted_proxy": ("::1",)}, "trusted_proxy")],
)
def test_others_are_not_served_without_a_token(
    paths: Paths, settings: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match="need a token") as caught:
        server_token(Config(**settings), paths)
    assert caught.value.param == key
    assert server_token(Config(**settings, token="given"), paths) == "given"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe"])
def test_a_file_without_a_token_is_an_error(paths: Paths, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="mine"):
        server_token(Config(token_file=str(file)), paths)


def test_a_named_file_must_exist(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        client_token(Config(token_file=str(tmp_path / "none")), paths)
