"""Network namespaces that lead nowhere but to each other, and calls inside of them."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000

TURN = "198.51.100.1"
"""The address on the internet, where the TURN server and the proxy are."""

NAT = "198.51.100.2"
SERVER = "10.1.0.2"
PROXY_INSIDE = "10.1.0.1"
"""The proxy's address towards the server."""


class Namespace:
    """One machine of its own, as far as networks go."""

    def __init__(self, role: str) -> None:
        self.name = f"tabagent-{role}-{os.getpid()}"

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        self.command("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        _run("ip", "netns", "del", self.name)

    def command(self, *words: str) -> str:
        """Run a command inside; returns what it prints."""
        return _run("ip", "netns", "exec", self.name, *words)

    def connect(self, address: str, other: Namespace, other_address: str) -> None:
        """Lay a cable to another one; both ends get an address, /24."""
        near, far = f"to-{other.name[9:12]}", f"to-{self.name[9:12]}"
        peer = ["peer", "name", far, "netns", other.name]
        self.command("ip", "link", "add", near, "type", "veth", *peer)
        for end, name, own in ((self, near, address), (other, far, other_address)):
            end.command("ip", "address", "add", f"{own}/24", "dev", name)
            end.command("ip", "link", "set", name, "up")

    def inside(self, call: Callable[[], T]) -> T:
        """Return what `call` returns in a thread whose sockets, and processes, are inside."""
        with ThreadPoolExecutor(1, initializer=self._enter) as thread:
            return thread.submit(call).result()

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)


class Network:
    """A server at home, a peer behind a NAT elsewhere, and the internet between them.

    The internet forwards nothing: both reach what is on it, and not each other.
    """

    def __init__(
        self, server: Namespace, internet: Namespace, nat: Namespace, peer: Namespace
    ) -> None:
        self.server, self.internet, self.nat, self.peer = server, internet, nat, peer
        internet.connect(PROXY_INSIDE, server, SERVER)
        internet.connect(TURN, nat, NAT)
        nat.connect("192.168.7.1", peer, "192.168.7.2")
        server.command("ip", "route", "add", "default", "via", PROXY_INSIDE)
        peer.command("ip", "route", "add", "default", "via", "192.168.7.1")
        nat.command("ip", "route", "add", "unreachable", "10.0.0.0/8")
        nat.command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        nat.command("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "192.168.7.0/24",
                    "-j", "MASQUERADE")  # fmt: skip

    @contextmanager
    def losing(self, one_in: int) -> Iterator[Callable[[], int]]:
        """Drop one in so many datagrams that the NAT forwards; yields what counts the dropped."""
        rule = ["FORWARD", "-p", "udp", "-m", "statistic", "--mode", "nth"]
        rule += ["--every", str(one_in), "--packet", "0", "-j", "DROP"]
        self.nat.command("iptables", "-A", *rule)
        try:
            yield lambda: int(
                self.nat.command("iptables", "-vxnL", "FORWARD").split("\n")[2].split()[0]
            )
        finally:
            self.nat.command("iptables", "-D", *rule)


def forbidden() -> str | None:
    """Return why no namespaces can be made here; None when they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root makes network namespaces"
    tried = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return None if tried.returncode == 0 else "no network namespace can be made here"


def missing(*programs: str) -> str | None:
    """Return which programs are absent; None when all are there."""
    absent = [program for program in ("ip", "iptables", *programs) if not _found(program)]
    return f"there is no {', '.join(absent)}" if absent else None


def _found(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _run(*words: str) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
