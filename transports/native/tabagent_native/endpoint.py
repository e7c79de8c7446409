"""Where the shim finds the server: a socket in a folder that only its user can enter."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import struct
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from .shim import LOOPBACK_TCP, PORT_FILE, SOCKET_NAME, lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Endpoint", "EndpointError", "connect", "open_endpoint", "peer_uid"]

BACKLOG: Final = 128
LOCK_NAME: Final = "native.lock"


class EndpointError(Exception):
    """The endpoint cannot be opened; the text says why."""


class Endpoint(Struct, frozen=True):
    """A socket, and the key that a hello must show where any user can connect."""

    socket: socket.socket
    key: str = ""


@contextmanager
def open_endpoint(folder: Path, *, loopback_tcp: bool = LOOPBACK_TCP) -> Iterator[Endpoint]:
    """Listen in `folder` while the context lasts; one server at a time does.

    :raises EndpointError: when another server does, or the folder cannot be made private.
    """
    with ExitStack() as stack:
        try:
            _make_private(folder)
            lock = stack.enter_context((folder / LOCK_NAME).open("ab"))
            if not lock_file(lock.fileno()):
                raise EndpointError(f"another server listens in {folder}")
            opened = _listen_tcp(folder) if loopback_tcp else _listen_unix(folder)
            endpoint = stack.enter_context(opened)
        except OSError as error:
            raise EndpointError(f"cannot listen in {folder}: {error}") from None
        yield endpoint


def connect(folder: Path, *, loopback_tcp: bool = LOOPBACK_TCP) -> Endpoint:
    """Connect to the server that listens in `folder`.

    :raises OSError: when none does.
    """
    if loopback_tcp:
        port, key = (folder / PORT_FILE).read_text(encoding="ascii").split()
        return Endpoint(socket.create_connection(("127.0.0.1", int(port))), key)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(folder / SOCKET_NAME) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return Endpoint(connection)


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user at the other end of a Unix socket, where the system tells."""
    if connection.family == socket.AF_INET:
        return None
    if sys.platform == "linux":
        size, layout = 12, "=iII"  # struct ucred: pid, uid, gid
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    elif sys.platform == "darwin":
        size, layout = 76, "=II"  # struct xucred: version, uid, groups
        local_peercred = 1
        credentials = connection.getsockopt(0, local_peercred, size)
    else:
        return None
    uid: int = struct.unpack_from(layout, credentials)[1]
    return uid


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform == "win32":
        return  # a user's folders are closed to other users there
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of this user")
    if status.st_mode & 0o077:
        folder.chmod(0o700)


@contextmanager
def _listen_unix(folder: Path) -> Iterator[Endpoint]:
    path = folder / SOCKET_NAME
    path.unlink(missing_ok=True)  # left by a server that was killed: this one holds the lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        with _address(path) as address:
            listening.bind(address)
        path.chmod(0o600)
        listening.listen(BACKLOG)
        try:
            yield Endpoint(listening)
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield an address for a socket: it has a bound of about 100 bytes, the path has not."""
    if sys.platform == "linux":
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        yield str(path)


@contextmanager
def _listen_tcp(folder: Path) -> Iterator[Endpoint]:
    port_file = folder / PORT_FILE
    key = secrets.token_hex(32)  # new each time: whoever gets the port later learns a dead one
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(BACKLOG)
        unfinished = port_file.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{listening.getsockname()[1]} {key}\n")
        unfinished.replace(port_file)
        try:
            yield Endpoint(listening, key)
        finally:
            port_file.unlink(missing_ok=True)
