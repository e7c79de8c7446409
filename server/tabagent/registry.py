"""Finds backends, transports and protocols through their entry points, built-ins like plugins."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from .core.backend import Backend
from .core.errors import RequestError
from .core.protocol import Protocol
from .core.transport import Listener

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Broken", "Registry"]

log = logging.getLogger("tabagent.registry")

T = TypeVar("T")


class Broken(Struct, frozen=True):
    """A plugin that is installed and cannot be used."""

    name: str
    reason: str


class Registry:
    """Loads plugins at first use; a broken one is logged and left out."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Look at `points` instead of what is installed, when given."""
        self._points = None if points is None else tuple(points)
        self._broken: dict[tuple[str, str], Broken] = {}

    def backends(self) -> dict[str, type[Backend]]:
        """Return the usable backends by name."""
        return self._usable("tabagent.backends", Backend)  # type: ignore[type-abstract]

    def listeners(self) -> dict[str, type[Listener]]:
        """Return the usable transports' listeners by name."""
        return self._usable("tabagent.transports", Listener)

    def protocol(self, name: str) -> type[Protocol]:
        """Return the protocol of that name.

        :raises RequestError: `not_supported`, with the reason.
        """
        group = "tabagent.protocols"
        for point in self._group(group):
            if point.name == name:
                found = self._load(group, point, Protocol)  # type: ignore[type-abstract]
                if found is None:
                    raise RequestError("not_supported", self._broken[group, name].reason)
                return found
        raise RequestError("not_supported", f"no protocol {name!r} is installed")

    def broken(self, group: str) -> list[Broken]:
        """Return the plugins of a group that have been tried and cannot be used."""
        return [broken for (kind, _), broken in self._broken.items() if kind == group]

    def _usable(self, group: str, kind: type[T]) -> dict[str, type[T]]:
        loaded = {point.name: self._load(group, point, kind) for point in self._group(group)}
        return {name: cls for name, cls in loaded.items() if cls is not None}

    def _group(self, group: str) -> list[EntryPoint]:
        points = entry_points(group=group) if self._points is None else self._points
        return sorted((point for point in points if point.group == group), key=_by_name)

    def _load(self, group: str, point: EntryPoint, kind: type[T]) -> type[T] | None:
        if (group, point.name) in self._broken:
            return None
        try:
            found = point.load()
            if isinstance(found, type) and issubclass(found, kind):
                return found
            reason = f"{point.value} is no {kind.__name__}"
        except ModuleNotFoundError as error:
            reason = _missing(point, error)
        except Exception as error:  # whatever a plugin's import raises must not stop the server
            log.debug("%s failed to import", point.value, exc_info=True)
            reason = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
        log.warning("%s %r is left out: %s", group, point.name, reason)
        self._broken[group, point.name] = Broken(point.name, reason)
        return None


def _by_name(point: EntryPoint) -> str:
    return point.name


def _missing(point: EntryPoint, error: ModuleNotFoundError) -> str:
    if point.extras:
        distribution = point.dist.name if point.dist is not None else "tabagent"
        return f"needs {error.name}: pip install '{distribution}[{','.join(point.extras)}]'"
    return f"needs the module {error.name}, which is not installed"
