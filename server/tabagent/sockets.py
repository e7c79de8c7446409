"""The sockets that the server listens on."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import Final

__all__ = ["listen", "url_of"]

SEND_BUFFER: Final = 64 * 1024
"""Bytes the kernel holds for a peer that does not read; its default swallows 4 MB of tokens."""

USER_TIMEOUT_MS: Final = 30_000
"""Milliseconds that sent data may stay unacknowledged before Linux drops the connection."""

LOOPBACK: Final = ("127.0.0.1", "::1")
ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
PORT_TRIES: Final = 20


def listen(host: str | None, port: int) -> list[socket.socket]:
    """Listen at `host`, or at both loopback addresses on one port; port 0 picks a free one.

    :raises OSError: with a message for people, when an address cannot be had.
    """
    if host is None or host == "localhost":
        for _ in range(PORT_TRIES):
            with contextlib.suppress(_PortTaken):
                return _listen_loopback(port)
        raise OSError(errno.EADDRINUSE, "found no port that is free at 127.0.0.1 and ::1")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen at {host}: {error.strerror}") from None
    addresses = dict.fromkeys((family, str(address[0])) for family, *_, address in found)
    family, address = next(iter(addresses))
    return [_bind(family, address, port)]


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """Return the address under which a listening socket is reached from this machine."""
    host, port = sock.getsockname()[:2]
    if sock.family == socket.AF_INET6:
        host = "[::1]" if host == "::" else f"[{host}]"
    return f"{scheme}://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


class _PortTaken(Exception):
    """The port picked for 127.0.0.1 is in use at ::1."""


def _listen_loopback(port: int) -> list[socket.socket]:
    first = _bind(socket.AF_INET, LOOPBACK[0], port)
    try:
        return [first, _bind(socket.AF_INET6, LOOPBACK[1], first.getsockname()[1])]
    except OSError as error:
        if error.errno in ABSENT or not socket.has_ipv6:
            return [first]
        first.close()
        if port == 0 and error.errno == errno.EADDRINUSE:
            raise _PortTaken from None
        # Somebody else would answer those who say `localhost`.
        raise


def _bind(family: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _set_options(sock)
        sock.bind((address, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        reason = str(error.strerror)
        if error.errno == errno.EADDRINUSE:
            reason = "the port is in use; --port chooses another"
        raise OSError(error.errno, f"cannot listen at {shown}: {reason}") from None
    return sock


def _set_options(sock: socket.socket) -> None:
    """Set what accepted connections inherit."""
    if sys.platform == "win32":
        # There, SO_REUSEADDR would let another program take over the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
