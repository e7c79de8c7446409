"""The listener takes who says hello, and tells protocols and callers apart."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tabagent import __version__
from tabagent.core.access import AccessPolicy
from tabagent.core.errors import RequestError
from tabagent.core.transport import ListenerContext, RunningServer
from tabagent_native import NativeListener, endpoint, handshake

from tests.transports.native.ports import DEADLINE, ORIGIN, accepting, echo, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tabagent.core.requests import Principal
    from tabagent.core.transport import Transport

pytestmark = pytest.mark.anyio

HELLO = {"type": "tabagent.hello", "protocol": 1}


class Peer:
    """A raw connection to the listener; it blocks."""

    def __init__(self, run: Path) -> None:
        self.socket = endpoint.connect(run).socket
        self.socket.settimeout(DEADLINE)

    def send(self, message: Any) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.socket.sendall(struct.pack("=I", len(data)) + data)

    def receive(self) -> Any:
        """Return the next message; None at the end."""
        header = self._receive_exactly(4)
        if not header:
            return None
        return json.loads(self._receive_exactly(struct.unpack("=I", header)[0]))

    def _receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.socket.recv(size - len(data))):
            data += more
        return data


async def say(run: Path, *messages: Any) -> list[Any]:
    """Send messages, take the answer to each; None is the end."""

    def talk() -> list[Any]:
        peer = Peer(run)
        with peer.socket:
            answers = []
            for message in messages:
                peer.send(message)
                answers.append(peer.receive())
            return answers

    return await anyio.to_thread.run_sync(talk)


async def refusal_of(run: Path, first: Any) -> Any:
    """Return the error that is the only answer to a first frame."""

    def talk() -> Any:
        peer = Peer(run)
        with peer.socket:
            peer.send(first)
            refusal = peer.receive()
            assert peer.receive() is None
            return refusal

    return await anyio.to_thread.run_sync(talk)


async def test_a_hello_is_answered_with_version_and_process(tmp_path: Path) -> None:
    async with serving(tmp_path, echo):
        answers = await say(tmp_path, HELLO, {"type": "x"})
    reply = {"type": "tabagent.hello", "protocol": 1, "version": __version__, "pid": os.getpid()}
    assert answers == [reply, {"type": "x"}]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "response.create"}, "invalid_message"),
        (b"\xff", "invalid_message"),
        ({**HELLO, "protocol": 2}, "not_supported"),
        ({**HELLO, "key": "guess"}, "token_required"),
    ],
)
async def test_who_says_no_proper_hello_is_refused(tmp_path: Path, first: Any, code: str) -> None:
    async with serving(tmp_path, echo):
        refusal = await refusal_of(tmp_path, first)
        assert (await say(tmp_path, HELLO, {"still": "here"}))[1] == {"still": "here"}
    assert (refusal["type"], refusal["error"]["code"]) == ("error", code)


async def test_another_users_connection_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "_own_uid", lambda: os.geteuid() + 1)
    async with serving(tmp_path, echo):
        refusal = await refusal_of(tmp_path, HELLO)
    assert refusal["error"]["code"] == "origin_not_allowed"


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        ({"type": "response.create"}, "responses"),
        ({"action": "ping", "type": "x"}, "extension"),
        (b"no json", "responses"),
        (b"[" * 100_000, "responses"),
        (b"\xff", "responses"),
        ([], "responses"),
    ],
)
async def test_the_first_message_chooses_the_protocol_and_reaches_it(
    tmp_path: Path, first: Any, protocol: str
) -> None:
    async with accepting(tmp_path) as acceptor:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say, tmp_path, HELLO, first)
            with anyio.fail_after(DEADLINE):
                accepted = await acceptor.accept()
                message = await accepted.transport.receive()
            await accepted.transport.aclose()
    sent = first if isinstance(first, bytes) else json.dumps(first).encode()
    assert accepted.protocol == protocol
    assert message == (sent if first == b"\xff" else sent.decode())


@pytest.mark.parametrize(
    ("hello", "principal"), [(HELLO, "local"), ({**HELLO, "origin": ORIGIN}, ORIGIN.rstrip("/"))]
)
async def test_extensions_and_local_software_may_infer_and_manage(
    tmp_path: Path, hello: Any, principal: str
) -> None:
    async with serving(tmp_path, echo):
        _, who = await say(tmp_path, hello, "who")
    assert who == ["responses", principal, ["infer", "manage"]]


async def test_a_refused_protocol_is_told_in_its_own_words(tmp_path: Path) -> None:
    async def refuse(transport: Transport, protocol: str, principal: Principal) -> None:
        raise RequestError("not_supported", f"no protocol {protocol!r}")

    async with serving(tmp_path, refuse):
        _, extension = await say(tmp_path, HELLO, {"action": "ping"})
        _, responses = await say(tmp_path, HELLO, {"type": "response.create"})
    assert (extension["status"], extension["code"]) == ("error", "not_supported")
    assert (responses["type"], responses["error"]["code"]) == ("error", "not_supported")


async def test_a_connection_that_fails_harms_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_once(transport: Transport, protocol: str, principal: Principal) -> None:
        if await transport.receive() == '"fail"':
            raise RuntimeError("on purpose")
        await transport.send('"fine"')

    async with serving(tmp_path, fail_once):
        assert (await say(tmp_path, HELLO, "fail"))[1] is None
        assert (await say(tmp_path, HELLO, "go on"))[1] == "fine"
    assert "on purpose" in caplog.text


async def test_a_second_listener_leaves_the_endpoint_to_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, echo) as first:
        second = NativeListener(ListenerContext(AccessPolicy(), echo, run=tmp_path))
        with anyio.fail_after(DEADLINE):
            await second.serve()
        assert (await say(tmp_path, HELLO, "who"))[1][0] == "responses"
        assert first.listening.is_set()
    assert "another server" in caplog.text


async def test_a_listener_without_a_folder_does_nothing() -> None:
    with anyio.fail_after(DEADLINE):
        await NativeListener(ListenerContext(AccessPolicy(), echo)).serve()


async def test_a_running_server_can_be_found(tmp_path: Path) -> None:
    async with serving(tmp_path, echo):
        found = await anyio.to_thread.run_sync(NativeListener.find_server, tmp_path)
    assert found == RunningServer(os.getpid(), __version__)
    assert await anyio.to_thread.run_sync(NativeListener.find_server, tmp_path) is None
