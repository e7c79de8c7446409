"""Installs the native host for the current user: the shim, its launcher, a manifest per browser."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from . import shim
from .launcher import launcher_name, launcher_text, recorded_interpreter
from .manifest import (
    BROWSERS,
    Extensions,
    Family,
    Manifest,
    manifest_name,
    manifest_places,
    manifest_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .manifest import Browser, ManifestPlace, Platform

__all__ = ["Change", "Finding", "Host", "HostFolders", "Registry"]

FAMILIES: Final[tuple[Family, ...]] = ("chromium", "firefox")
INSTALL: Final = "tabagent host install"

Action: TypeAlias = Literal["written", "removed", "unchanged", "kept"]
State: TypeAlias = Literal["ok", "absent", "stale", "broken"]


class Registry(Protocol):
    """Keys below `HKEY_CURRENT_USER` and their default values."""

    def get(self, key: str) -> str | None:
        """Return the key's default value; None when there is none."""

    def set(self, key: str, value: str) -> None:
        """Set the key's default value; makes the key."""

    def delete(self, key: str) -> None:
        """Delete the key; an absent one is no error."""


class Change(Struct, frozen=True):
    """What became of one file or registry key; `kept` is what another installation wrote."""

    action: Action
    target: str


class Finding(Struct, frozen=True, omit_defaults=True):
    """The state of one part of the installation, and what mends it.

    `stale` parts work, but not as an installation made now; `broken` ones do not work.
    """

    target: str
    state: State
    browser: str | None = None
    problem: str | None = None
    remedy: str | None = None


class HostFolders(Struct, frozen=True):
    """Where things are.

    Attributes:
        host: The folder for the shim.
        state: The folder of the server's log.
        home: The user's home folder.
        config_home: Where Linux browsers keep their profiles.
        tabagent_home: `TABAGENT_HOME`, when it is set.
    """

    host: Path
    state: Path
    home: Path
    config_home: Path
    tabagent_home: str | None = None


class _File(Struct, frozen=True):
    path: Path
    mode: int = 0o644

    @property
    def target(self) -> str:
        return str(self.path)

    def read(self) -> str | None:
        try:
            return self.path.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None

    def is_usable(self) -> bool:
        return os.access(self.path, os.X_OK if self.mode & 0o100 else os.R_OK)

    def write(self, text: str) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.path.with_name(f"{self.path.name}.new")
        unfinished.write_bytes(text.encode())
        unfinished.chmod(self.mode)
        unfinished.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class _Key(Struct, frozen=True):
    registry: Registry
    key: str
    target: str

    def read(self) -> str | None:
        return self.registry.get(self.key)

    def is_usable(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.registry.set(self.key, text)

    def remove(self) -> None:
        self.registry.delete(self.key)


_Part: TypeAlias = "_File | _Key"


class Host:
    """The native host of one user, as it is installed and as it should be."""

    def __init__(
        self,
        folders: HostFolders,
        platform: Platform,
        interpreter: str,
        registry: Registry | None = None,
    ) -> None:
        """Describe a host whose launcher runs `interpreter`; Windows needs its registry."""
        self._folders = folders
        self._platform = platform
        self._interpreter = interpreter
        self._registry = registry
        self.launcher = folders.host / launcher_name(platform)

    def extensions(self) -> Extensions:
        """Return the extensions that the installed host lets in."""
        found = Extensions()
        for family in FAMILIES:
            with contextlib.suppress(OSError, ValueError):
                text = (self._folders.host / manifest_name(family)).read_bytes()
                found |= Manifest.parse(text).extensions
        return found

    def install(
        self, added: Extensions, browsers: Iterable[Browser] = BROWSERS, *, dry_run: bool = False
    ) -> list[Change]:
        """Install or mend the host for `browsers`, and let `added` in beside those it knows.

        :raises ValueError: when no extension is given and none is known.
        """
        extensions = self.extensions() | added
        if not extensions:
            raise ValueError(f"name at least one extension: {INSTALL} EXTENSION_ID")
        parts = self._own_parts(extensions)
        for place in self._places(browsers):
            parts.append((self._part(place), self._wanted_at(place, extensions)))
        return self._apply(parts, dry_run)

    def uninstall(
        self, removed: Extensions | None = None, *, dry_run: bool = False
    ) -> list[Change]:
        """Let `removed` in no longer; remove the host when none is left, or for None."""
        extensions = Extensions() if removed is None else self.extensions() - removed
        changes: list[Change] = []
        parts: list[tuple[_Part, str | None]] = []
        for place in self._places(BROWSERS):
            part = self._part(place)
            text = part.read()
            if text is not None and self._is_foreign(place, text):
                changes.append(Change("kept", part.target))
            elif text is not None:
                parts.append((part, self._wanted_at(place, extensions)))
        changes += self._apply([*parts, *self._own_parts(extensions)], dry_run)
        if not extensions and not dry_run:
            shutil.rmtree(self._folders.host / "__pycache__", ignore_errors=True)
            with contextlib.suppress(OSError):  # absent, or not only ours
                self._folders.host.rmdir()
        return changes

    def status(self) -> list[Finding]:
        """Return the state of all parts; just one `absent` finding when nothing is installed."""
        extensions = self.extensions()
        remedy = INSTALL if extensions else f"{INSTALL} EXTENSION_ID"
        places = self._places(BROWSERS)
        present = [place for place in places if self._part(place).read() is not None]
        if not present and not self._folders.host.exists():
            return [Finding(str(self.launcher), "absent", remedy=remedy)]
        findings = [
            self._judge_own(part, text, remedy) for part, text in self._own_parts(extensions)
        ]
        findings += [self._judge_place(place, extensions, remedy) for place in places]
        return [finding for finding in findings if finding is not None]

    def _places(self, browsers: Iterable[Browser]) -> list[ManifestPlace]:
        folders = self._folders
        return manifest_places(browsers, self._platform, folders.home, folders.config_home)

    def _part(self, place: ManifestPlace) -> _Part:
        if place.file is not None:
            return _File(place.file)
        assert self._registry is not None
        assert place.key is not None
        return _Key(self._registry, place.key, place.target)

    def _own_parts(self, extensions: Extensions) -> list[tuple[_Part, str | None]]:
        """Return what belongs into the host's folder, None where nothing does."""
        folder = self._folders.host
        program = folder / "shim.py"
        launcher = launcher_text(
            self._platform,
            self._interpreter,
            program,
            self._folders.state,
            self._folders.tabagent_home,
        )
        source = Path(shim.__file__).read_text(encoding="utf-8")
        parts: list[tuple[_Part, str | None]] = [
            (_File(program), source if extensions else None),
            (_File(self.launcher, 0o755), launcher if extensions else None),
        ]
        for family in FAMILIES:
            part = _File(folder / manifest_name(family))
            parts.append((part, self._manifest(family, extensions)))
        return parts

    def _manifest(self, family: Family, extensions: Extensions) -> str | None:
        if not extensions.of(family):
            return None
        return manifest_text(family, extensions, str(self.launcher))

    def _wanted_at(self, place: ManifestPlace, extensions: Extensions) -> str | None:
        family = place.browser.family
        text = self._manifest(family, extensions)
        if place.key is None or text is None:
            return text
        return str(self._folders.host / manifest_name(family))

    def _apply(self, parts: list[tuple[_Part, str | None]], dry_run: bool) -> list[Change]:
        changes = []
        for part, wanted in parts:
            current = part.read()
            if current is None and wanted is None:
                continue
            action: Action = "unchanged"
            if wanted is None:
                action = "removed"
            elif current != wanted or not part.is_usable():
                action = "written"
            changes.append(Change(action, part.target))
            if dry_run:
                continue
            if action == "removed":
                part.remove()
            elif wanted is not None and action == "written":
                part.write(wanted)
        return changes

    def _judge_own(self, part: _Part, wanted: str | None, remedy: str) -> Finding | None:
        text = part.read()
        state: State = "broken"
        if text is None and wanted is None:
            return None
        if text is None:
            problem = "is missing"
        elif wanted is None:
            problem = "names no extension"
        elif not part.is_usable():
            problem = "is not executable"
        elif part.target == str(self.launcher) and not _exists(recorded_interpreter(text)):
            problem = f"runs {recorded_interpreter(text)}, which is gone"
        elif text == wanted:
            return Finding(part.target, "ok")
        else:
            state, problem = "stale", "was written by another version or from another environment"
        return Finding(part.target, state, problem=problem, remedy=remedy)

    def _judge_place(
        self, place: ManifestPlace, extensions: Extensions, remedy: str
    ) -> Finding | None:
        part = self._part(place)
        text = part.read()
        wanted = self._wanted_at(place, extensions)
        name = place.browser.name
        if text == wanted:
            return None if text is None else Finding(part.target, "ok", name)
        if text is None:
            return Finding(part.target, "absent", name, remedy=f"{remedy} --browser {name}")
        state: State = "broken"
        try:
            manifest = self._manifest_at(place, text)
        except (OSError, ValueError) as error:
            problem = f"is no manifest: {error}"
        else:
            if not Path(manifest.path).exists():
                problem = f"starts {manifest.path}, which is gone"
            elif manifest.path != str(self.launcher):
                state, problem = "stale", f"starts another installation: {manifest.path}"
            else:
                state, problem = "stale", "lets other extensions in than the host does"
        return Finding(part.target, state, name, problem, remedy)

    def _is_foreign(self, place: ManifestPlace, text: str) -> bool:
        """Whether an installation of somebody else's put this there, and still exists."""
        try:
            program = Path(self._manifest_at(place, text).path)
        except (OSError, ValueError):
            return False
        return program != self.launcher and program.exists()

    def _manifest_at(self, place: ManifestPlace, text: str) -> Manifest:
        return Manifest.parse(text.encode() if place.key is None else Path(text).read_bytes())


def _exists(program: str | None) -> bool:
    return program is not None and Path(program).exists()
