"""Finds backends, transports and protocols through their entry points, built-ins like plugins."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from .core.backend import Backend
from .core.protocol import Protocol
from .core.transport import Listener

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Broken", "Registry"]

log = logging.getLogger("tabagent.registry")

T = TypeVar("T")


class Broken(Struct, frozen=True):
    """A plugin that is installed and cannot be used.

    Attributes:
        optional: Whether all that is missing is an extra that nobody asked for.
    """

    name: str
    reason: str
    optional: bool = False


class Registry:
    """Loads the plugins of a group at first use, once; a broken one is logged and left out."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Look at `points` instead of what is installed, when given."""
        self._points = None if points is None else tuple(points)
        self._usable: dict[str, dict[str, type[Any]]] = {}
        self._broken: dict[str, list[Broken]] = {}

    def backends(self) -> dict[str, type[Backend]]:
        """Return the usable backends by name."""
        return self._load("tabagent.backends", Backend)  # type: ignore[type-abstract]

    def listeners(self) -> dict[str, type[Listener]]:
        """Return the usable transports' listeners by name."""
        return self._load("tabagent.transports", Listener)

    def protocols(self) -> dict[str, type[Protocol]]:
        """Return the usable protocols by name."""
        return self._load("tabagent.protocols", Protocol)  # type: ignore[type-abstract]

    def broken(self, group: str) -> list[Broken]:
        """Return the plugins of a group that cannot be used, once the group has been loaded."""
        return self._broken.get(group, [])

    def _load(self, group: str, kind: type[T]) -> dict[str, type[T]]:
        if group not in self._usable:
            found = entry_points(group=group) if self._points is None else self._points
            points = sorted((point for point in found if point.group == group), key=_by_name)
            self._usable[group], self._broken[group] = {}, []
            for point in points:
                plugin = _import(point, kind)
                if isinstance(plugin, Broken):
                    level = logging.INFO if plugin.optional else logging.WARNING
                    log.log(level, "%s %r is left out: %s", group, point.name, plugin.reason)
                    self._broken[group].append(plugin)
                else:
                    self._usable[group][point.name] = plugin
        return self._usable[group]


def _import(point: EntryPoint, kind: type[T]) -> type[T] | Broken:
    try:
        found = point.load()
    except ModuleNotFoundError as error:
        return Broken(point.name, _missing(point, error), optional=bool(point.extras))
    except Exception as error:  # whatever a plugin's import raises must not stop the server
        log.debug("%s failed to import", point.value, exc_info=True)
        reason = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
        return Broken(point.name, reason)
    if isinstance(found, type) and issubclass(found, kind):
        return found
    return Broken(point.name, f"{point.value} is no {kind.__name__}")


def _by_name(point: EntryPoint) -> str:
    return point.name


def _missing(point: EntryPoint, error: ModuleNotFoundError) -> str:
    if point.extras:
        distribution = point.dist.name if point.dist is not None else "tabagent"
        return f"needs {error.name}: pip install '{distribution}[{','.join(point.extras)}]'"
    return f"needs the module {error.name}, which is not installed"
