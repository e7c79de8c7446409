"""Keeps account of the open connections: how many there are, and whose approval they rest on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .core.access import AccessPolicy
    from .core.requests import Principal

__all__ = ["Connections"]


class Connections:
    """The duplex connections of one server.

    Attributes:
        opened: How many there have been.
    """

    def __init__(self, access: AccessPolicy) -> None:
        self.opened = 0
        self._access = access
        self._open: dict[CancelScope, str | None] = {}  # and the origin whose approval let it in

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self, principal: Principal) -> Iterator[None]:
        """Count the block as a connection; it is cancelled when its origin loses its approval."""
        self.opened += 1
        with CancelScope() as scope:
            approved = self._access.allows_origin(principal.id)
            self._open[scope] = principal.id if approved else None
            try:
                yield
            finally:
                del self._open[scope]

    def close_revoked(self) -> None:
        """End the connections of origins that are approved no longer."""
        for scope, origin in self._open.items():
            if origin is not None and not self._access.allows_origin(origin):
                scope.cancel()
