"""Which origins may call: those that were approved, and the extensions that ask to be."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "MAX_PENDING",
    "ApprovedOrigin",
    "OriginList",
    "OriginRecords",
    "OriginRegistry",
    "PendingOrigin",
    "is_extension",
    "new_pairing_code",
    "unknown_origin",
]

MAX_PENDING: Final = 20
"""Extensions that may wait for approval; the one that has waited longest gives way."""

_ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # nothing that looks like something else
_CODE_LENGTH: Final = 6

_EXTENSION = re.compile(
    r"chrome-extension://[a-p]{32}"
    r"|(moz-extension|safari-web-extension)://[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


class ApprovedOrigin(Struct, frozen=True):
    """An origin that may infer, and who said so: a person, a setting, or the native host."""

    origin: str
    by: Literal["user", "setting", "host"]


class PendingOrigin(Struct, frozen=True):
    """An extension that has called and was refused.

    Attributes:
        code: What the extension shows too, so that people approve the one they mean.
        asked_at: When it called first, in Unix seconds.
    """

    origin: str
    code: str
    asked_at: int


class OriginList(Struct, frozen=True):
    """All that is known of origins."""

    approved: list[ApprovedOrigin]
    pending: list[PendingOrigin]


class OriginRecords(Struct, frozen=True):
    """What is remembered of origins: approvals, and requests for one, oldest first."""

    approved: tuple[str, ...] = ()
    pending: tuple[PendingOrigin, ...] = ()

    def ask(self, asked: PendingOrigin) -> OriginRecords:
        """Add a request for approval, unless that origin waits or is approved already."""
        if asked.origin in self.approved or self.pending_of(asked.origin):
            return self
        return OriginRecords(self.approved, (*self.pending, asked)[-MAX_PENDING:])

    def approve(self, origin: str) -> OriginRecords:
        """Approve an origin."""
        approved = tuple(sorted({*self.approved, origin}))
        return OriginRecords(approved, _without(self.pending, origin))

    def revoke(self, origin: str) -> OriginRecords:
        """Take an approval back, or refuse one that is asked for."""
        approved = tuple(each for each in self.approved if each != origin)
        return OriginRecords(approved, _without(self.pending, origin))

    def pending_of(self, name: str) -> PendingOrigin | None:
        """Return the request of an origin, or the one with a pairing code."""
        code = name.strip().upper().replace("-", "")
        for pending in self.pending:
            if pending.origin == name or pending.code.replace("-", "") == code:
                return pending
        return None


class OriginRegistry(ABC):
    """Who is approved, and by whom. All but `save` return at once."""

    @abstractmethod
    def is_approved(self, origin: str) -> bool:
        """Whether an origin may infer."""

    @abstractmethod
    def ask(self, origin: str) -> str:
        """Note that an extension wants to be approved; return its pairing code."""

    @abstractmethod
    def approve(self, name: str) -> None:
        """Approve an origin, or the pending one with a pairing code.

        :raises RequestError: `invalid_parameter` when it is neither.
        """

    @abstractmethod
    def revoke(self, name: str) -> None:
        """Take an approval back, or refuse what is pending.

        :raises RequestError: `invalid_parameter` when nothing is known of it, or when it is
            approved by a setting or by the native host.
        """

    @abstractmethod
    def list(self) -> OriginList:
        """Return all that is known."""

    @abstractmethod
    async def save(self) -> None:
        """Write changes to where they last, and take note of those of others."""


def is_extension(origin: str) -> bool:
    """Whether an origin is a browser extension's."""
    return _EXTENSION.fullmatch(origin) is not None


def new_pairing_code(taken: Iterable[PendingOrigin]) -> str:
    """Return a code that people can compare and type."""
    codes = {pending.code for pending in taken}
    while True:
        letters = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
        code = f"{letters[:3]}-{letters[3:]}"
        if code not in codes:
            return code


def unknown_origin(name: str) -> RequestError:
    """Return the error for a name that stands for no origin."""
    text = f"origin: {name[:200]!r} is no origin, and no pairing code of one that is pending"
    return RequestError("invalid_parameter", text, param="origin")


def _without(pending: Iterable[PendingOrigin], origin: str) -> tuple[PendingOrigin, ...]:
    return tuple(each for each in pending if each.origin != origin)
