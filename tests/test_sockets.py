"""What the server listens on."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack

import pytest
from tabagent.sockets import SEND_BUFFER, listen, url_of


def test_both_loopback_addresses_share_one_port() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in listen(None, 0)]
        addresses = [sock.getsockname()[:2] for sock in sockets]
        assert addresses[0][0] == "127.0.0.1"
        assert {host for host, _ in addresses} <= {"127.0.0.1", "::1"}
        assert len({port for _, port in addresses}) == 1
        assert url_of(sockets[0]) == f"http://127.0.0.1:{addresses[0][1]}"


def test_a_named_address_is_the_only_one() -> None:
    (sock,) = listen("127.0.0.1", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_accepted_connections_inherit_a_small_send_buffer() -> None:
    (sock,) = listen("127.0.0.1", 0)
    with sock, socket.create_connection(sock.getsockname()):
        accepted, _ = sock.accept()
        with accepted:
            size = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert size <= 2 * SEND_BUFFER  # Linux doubles what is asked for
            if sys.platform == "linux":
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_a_port_in_use_is_told_with_a_way_out(host: str | None) -> None:
    (taken,) = listen("127.0.0.1", 0)
    with taken, pytest.raises(OSError, match=r"in use; --port chooses another") as caught:
        listen(host, taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"cannot listen at 192\.0\.2\.1"):
        listen("192.0.2.1", 0)
