"""Who may call: one policy for every door, as a pure function of what the caller shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from .requests import Principal

__all__ = ["AccessPolicy", "Caller"]


class Caller(Struct, frozen=True, kw_only=True):
    """What a caller shows before anything is accepted.

    Attributes:
        method: HTTP method; an upgrade is a `GET` with `upgrade` set.
        host: The `Host` header.
        origin: The `Origin` header.
        sec_fetch_site: The `Sec-Fetch-Site` header.
        token: Bearer token or sub-protocol key.
        upgrade: Whether this opens a duplex connection.
    """

    method: str
    host: str | None = None
    origin: str | None = None
    sec_fetch_site: str | None = None
    token: str | None = None
    upgrade: bool = False


class AccessPolicy(ABC):
    """Decides who a caller is."""

    @abstractmethod
    def judge(self, caller: Caller) -> Principal:
        """Return the principal that `caller` is.

        :raises AccessError: `host_not_allowed`, `token_required` or `origin_not_allowed`.
        """

    @abstractmethod
    def allows_origin(self, origin: str) -> bool:
        """Whether answers to `origin` may carry CORS headers that name it."""
