"""The server's token: given, or kept in a file that only its user can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from .config import ConfigError

if TYPE_CHECKING:
    from .config import Config, Paths

__all__ = ["client_token", "server_token"]


def server_token(config: Config, paths: Paths) -> str | None:
    """Return the token that callers may show; `--require-token` makes one where there is none.

    :raises ConfigError: when a token is needed and there is none, or its file cannot be used.
    """
    token = client_token(config, paths)
    if token is None and config.require_token:
        token = secrets.token_urlsafe(32)
        _write(paths.token, token)
    if token is None and config.token_required:
        key = "trusted_proxy" if config.loopback else "host"
        raise ConfigError(
            key,
            f"--{key.replace('_', '-')}",
            "callers from other machines need a token: "
            "give --token, --token-file or --require-token",
        )
    return token


def client_token(config: Config, paths: Paths) -> str | None:
    """Return the token that this user's server would want, if there is one.

    :raises ConfigError: when the token file cannot be used.
    """
    if config.token is not None:
        return config.token
    if config.token_file is not None:
        token = _read(Path(config.token_file).expanduser())
        if token is None:
            raise ConfigError("token_file", "--token-file", f"{config.token_file} does not exist")
        return token
    return _read(paths.token)


def _read(file: Path) -> str | None:
    try:
        token = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError("token_file", str(file), f"cannot be read: {error}") from None
    if not token or not token.isprintable() or " " in token:
        raise ConfigError("token_file", str(file), "a token is printable ASCII without spaces")
    return token


def _write(file: Path, token: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:
            stream.write(token + "\n")
    except OSError as error:
        raise ConfigError("require_token", str(file), f"cannot be written: {error}") from None
