"""Client secrets: short-lived keys that a caller makes for code it does not trust with its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from .errors import AccessError, RequestError
from .requests import Principal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_SECRETS", "SECRET_PREFIX", "ClientSecret", "ClientSecrets"]

SECRET_PREFIX: Final = "ek_"
"""What a client secret begins with; stock clients insist on it."""

MAX_SECRETS: Final = 256
"""Secrets that one principal may have at a time."""


class ClientSecret(Struct, frozen=True):
    """A key that lets its holder infer until it expires.

    Attributes:
        value: What the holder shows, as it would the server's token.
        expires_at: Unix seconds.
        principal: Who its holder is.
        origin: The origin that made it, if one did: it holds as long as that is approved.
        session: The session object that a connection opened with it begins with.
    """

    value: str
    expires_at: float
    principal: Principal
    origin: str | None
    session: Mapping[str, Any]


class ClientSecrets:
    """The client secrets of one server; they do not outlive it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Expire by `clock`, which gives Unix seconds."""
        self._clock = clock
        # By digest: how long a look-up takes says nothing about the values that exist.
        self._secrets: dict[bytes, tuple[str, ClientSecret]] = {}  # and who made each

    def issue(
        self,
        issuer: Principal,
        seconds: float,
        *,
        origin: str | None = None,
        session: Mapping[str, Any] | None = None,
    ) -> ClientSecret:
        """Make a secret for `issuer`, which may infer; `origin` says that it is an origin.

        An origin's secret stands for that origin itself: it is the same code that will show it.
        Any other's holder is a principal of its own, to whom nobody else's responses are shown.

        :raises AccessError: `scope_required` when the issuer may not infer, or came with a secret.
        :raises RequestError: `overloaded` when the issuer has too many.
        """
        issuer.require("infer")
        if issuer.expires_at is not None:
            raise AccessError("scope_required", "a client secret cannot make another")
        self._forget_expired()
        if sum(maker == issuer.id for maker, _ in self._secrets.values()) >= MAX_SECRETS:
            raise RequestError("overloaded", f"{MAX_SECRETS} client secrets are in use already")
        value = f"{SECRET_PREFIX}{secrets.token_hex(32)}"
        expires_at = self._clock() + seconds
        holder = Principal(
            origin or f"client_secret:{secrets.token_hex(8)}",
            frozenset({"infer"}),
            expires_at,
        )
        secret = ClientSecret(value, expires_at, holder, origin, session or {})
        self._secrets[_digest(value)] = issuer.id, secret
        return secret

    def find(self, value: str) -> ClientSecret | None:
        """Return the secret with this value, unless it has expired."""
        _, secret = self._secrets.get(_digest(value), (None, None))
        return secret if secret and self._clock() < secret.expires_at else None

    def _forget_expired(self) -> None:
        now = self._clock()
        self._secrets = {
            key: kept for key, kept in self._secrets.items() if now < kept[1].expires_at
        }


def _digest(value: str) -> bytes:
    return sha256(value.encode()).digest()
