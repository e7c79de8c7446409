"""Keeps approved and pending origins in `origins.json`, which only its user can read."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
from anyio import to_thread
from msgspec import Struct

from .config import ConfigError
from .core.access import parse_origin
from .core.errors import RequestError
from .core.origins import (
    ApprovedOrigin,
    OriginList,
    OriginRecords,
    OriginRegistry,
    PendingOrigin,
    is_extension,
    new_pairing_code,
    unknown_origin,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from .config import Paths

    Edit = Callable[[OriginRecords], OriginRecords]

__all__ = ["OriginStore"]

log = logging.getLogger("tabagent.origins")

POLL_INTERVAL: Final = 1.0
"""Seconds after which changes by other processes are seen, at the latest."""

HOST_NAME: Final = "com.tabagent.host"


class _Manifest(Struct):
    name: str
    allowed_origins: list[str] = []


class _Stored(Struct, frozen=True):
    """What the files say, and how they looked then."""

    records: OriginRecords
    installed: frozenset[str]
    stamps: tuple[object, ...]


class OriginStore(OriginRegistry):
    """Approvals by people, by settings, and by the manifest of the installed native host.

    Changes hold at once; `save` writes them, and reads what other processes have written. They
    are made anew on what the file says then, so that nobody's are lost.

    Attributes:
        on_change: Called after each change that holds.
    """

    def __init__(self, paths: Paths, settings: Iterable[str] = ()) -> None:
        """Read the files.

        :raises ConfigError: when `origins.json` cannot be used.
        """
        self._file = paths.origins
        self._manifest = paths.data / "host" / f"{HOST_NAME}.json"
        self._settings = tuple(settings)
        self._edits: list[Edit] = []
        self._saving = anyio.Lock()
        try:
            self._stored = self._read()
        except (OSError, ValueError) as error:
            raise ConfigError("origins", str(self._file), f"cannot be read: {error}") from None
        self._records = self._stored.records
        self.on_change: Callable[[], object] = lambda: None

    async def serve(self) -> None:
        """Save again and again, until cancelled."""
        while True:
            await anyio.sleep(POLL_INTERVAL)
            await self.save()

    def is_approved(self, origin: str) -> bool:
        """Whether an origin may infer."""
        return origin in self._records.approved or self._otherwise_approved(origin) is not None

    def ask(self, origin: str) -> str:
        """Note that an extension wants to be approved; return its pairing code."""
        pending = self._records.pending_of(origin)
        if pending is None:
            code = new_pairing_code(self._records.pending)
            pending = PendingOrigin(origin, code, int(time.time()))
            self._edit(partial(_ask, pending))
            log.warning("%s asks to be approved, its pairing code is %s", origin, code)
        return pending.code

    def approve(self, name: str) -> None:
        """Approve an origin, or the pending one with a pairing code."""
        self._edit(partial(_approve, self._named(name)))

    def revoke(self, name: str) -> None:
        """Take an approval back, or refuse what is pending."""
        origin = self._named(name)
        by = self._otherwise_approved(origin)
        if by is not None:
            how = "--allow-origin" if by == "setting" else "tabagent host uninstall"
            text = f"origin: {origin} is approved elsewhere; see {how}"
            raise RequestError("invalid_parameter", text, param="origin")
        if origin not in self._records.approved and not self._records.pending_of(origin):
            raise RequestError(
                "invalid_parameter", f"origin: {origin} is not approved", param="origin"
            )
        self._edit(partial(_revoke, origin))

    def list(self) -> OriginList:
        """Return all that is known."""
        approved = [ApprovedOrigin(origin, "user") for origin in self._records.approved]
        approved += [ApprovedOrigin(origin, "setting") for origin in self._settings]
        approved += [ApprovedOrigin(origin, "host") for origin in sorted(self._stored.installed)]
        waiting = [each for each in self._records.pending if not self.is_approved(each.origin)]
        return OriginList(approved, waiting)

    async def save(self) -> None:
        """Write changes to the file, and take note of those of others."""
        async with self._saving:
            edits, self._edits = self._edits, []
            try:
                self._stored = await to_thread.run_sync(self._sync, edits)
            except (OSError, ValueError) as error:
                # What is in force stays so; the next change tries to write again.
                log.error("%s cannot be kept up to date: %s", self._file, error)
                return
            records = self._stored.records
            for edit in self._edits:
                records = edit(records)
            self._records = records
        self.on_change()

    def _edit(self, edit: Edit) -> None:
        self._records = edit(self._records)
        self._edits.append(edit)
        self.on_change()

    def _named(self, name: str) -> str:
        pending = self._records.pending_of(name)
        if pending is not None:
            return pending.origin
        try:
            return parse_origin(name)
        except ValueError:
            raise unknown_origin(name) from None

    def _otherwise_approved(self, origin: str) -> str | None:
        if origin in self._settings:
            return "setting"
        return "host" if origin in self._stored.installed else None

    def _sync(self, edits: Sequence[Edit]) -> _Stored:
        """Bring the files and what is in force together; runs in a worker thread."""
        stored = self._stored if self._stored.stamps == self._stamps() else self._read()
        if not edits:
            return stored
        records = stored.records
        for edit in edits:
            records = edit(records)
        _write(self._file, records)
        return _Stored(records, stored.installed, self._stamps())

    def _read(self) -> _Stored:
        stamps = self._stamps()  # before reading: a later change is then seen next time
        try:
            records = msgspec.json.decode(self._file.read_bytes(), type=OriginRecords)
        except FileNotFoundError:
            records = OriginRecords()
        return _Stored(records, _installed(self._manifest), stamps)

    def _stamps(self) -> tuple[object, ...]:
        return _stamp(self._file), _stamp(self._manifest)


def _ask(asked: PendingOrigin, records: OriginRecords) -> OriginRecords:
    return records.ask(asked)


def _approve(origin: str, records: OriginRecords) -> OriginRecords:
    return records.approve(origin)


def _revoke(origin: str, records: OriginRecords) -> OriginRecords:
    return records.revoke(origin)


def _installed(manifest: Path) -> frozenset[str]:
    """The extensions that the native host was installed for."""
    try:
        found = msgspec.json.decode(manifest.read_bytes(), type=_Manifest)
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", manifest, error)
        return frozenset()
    if found.name != HOST_NAME:
        return frozenset()
    origins = {origin.removesuffix("/") for origin in found.allowed_origins}
    return frozenset(origin for origin in origins if is_extension(origin))


def _write(file: Path, records: OriginRecords) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(records), indent=2) + b"\n")
    unfinished.replace(file)


def _stamp(file: Path) -> object:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
