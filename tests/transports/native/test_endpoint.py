"""The endpoint is one server's, and open to one user only."""

from __future__ import annotations

import os
import socket
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from tabagent_native.endpoint import EndpointError, connect, open_endpoint, peer_uid

if TYPE_CHECKING:
    from pathlib import Path

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")
tcp = pytest.mark.parametrize("loopback_tcp", [False, True], ids=["unix", "tcp"])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@unix_only
def test_folder_and_socket_are_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    with open_endpoint(folder):
        assert (mode(folder), mode(folder / "native.sock")) == (0o700, 0o600)


@unix_only
def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with open_endpoint(tmp_path):
        assert mode(tmp_path) == 0o700


@unix_only
def test_a_link_to_a_folder_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        pytest.raises(EndpointError, match="not a folder of this user"),
        open_endpoint(tmp_path / "link"),
    ):
        pass


@tcp
def test_what_is_said_here_is_heard_there(tmp_path: Path, loopback_tcp: bool) -> None:
    with open_endpoint(tmp_path, loopback_tcp=loopback_tcp) as endpoint:
        client = connect(tmp_path, loopback_tcp=loopback_tcp)
        accepted, _ = endpoint.socket.accept()
        with client.socket, accepted:
            client.socket.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
            assert client.key == endpoint.key


@tcp
def test_a_second_server_is_refused_and_the_first_lives_on(
    tmp_path: Path, loopback_tcp: bool
) -> None:
    with open_endpoint(tmp_path, loopback_tcp=loopback_tcp) as endpoint:
        with (
            pytest.raises(EndpointError, match="another server"),
            open_endpoint(tmp_path, loopback_tcp=loopback_tcp),
        ):
            pass
        connect(tmp_path, loopback_tcp=loopback_tcp).socket.close()
        endpoint.socket.accept()[0].close()


@tcp
def test_nothing_is_left_when_it_closes(tmp_path: Path, loopback_tcp: bool) -> None:
    for _ in range(2):
        with open_endpoint(tmp_path, loopback_tcp=loopback_tcp):
            pass
        with pytest.raises(OSError, match="No such file"):
            connect(tmp_path, loopback_tcp=loopback_tcp)


@unix_only
def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "native.sock"))
    with open_endpoint(tmp_path):
        connect(tmp_path).socket.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such paths are refused")
def test_the_folder_may_have_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    with open_endpoint(folder):
        connect(folder).socket.close()


@unix_only
def test_the_peers_user_is_known() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) == os.geteuid()


def test_a_port_file_is_the_users_own_and_its_key_is_new_each_time(tmp_path: Path) -> None:
    keys = set()
    for _ in range(2):
        with open_endpoint(tmp_path, loopback_tcp=True) as endpoint:
            assert sys.platform == "win32" or mode(tmp_path / "native.port") == 0o600
            assert len(endpoint.key) == 64
            keys.add(endpoint.key)
    assert len(keys) == 2
