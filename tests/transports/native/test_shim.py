"""The shim relays, and says in its peer's words why it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from tabagent.config import Paths
from tabagent.core.errors import TransportClosed
from tabagent.protocols.chunks import ChunkJoiner, split_message
from tabagent_native import handshake, shim
from tabagent_native.endpoint import open_endpoint
from tabagent_native.framing import MAX_FRAME_TO_BROWSER, encode_frame

from tests.transports.native.ports import (
    ADD_ON,
    DEADLINE,
    LIMIT,
    ORIGIN,
    Home,
    Port,
    accepting,
    echo,
    serving,
)

if TYPE_CHECKING:
    from tabagent_native.endpoint import Endpoint

pytestmark = pytest.mark.anyio

STRANGER = f"chrome-extension://{'p' * 32}/"
PING = {"action": "ping", "requestId": "r1"}


async def is_over(port: Port) -> bool:
    with anyio.fail_after(DEADLINE), pytest.raises(TransportClosed):
        await port.receive()
    return True


def text_of(size: int) -> str:
    """A JSON text of `size` bytes."""
    return json.dumps("x" * (size - 2))


@pytest.mark.parametrize(
    ("caller", "principal"),
    [
        ((ORIGIN,), ORIGIN.rstrip("/")),
        ((ORIGIN, "--parent-window=1"), ORIGIN.rstrip("/")),
        (("/path/to/com.tabagent.host.json", ADD_ON), ADD_ON),
    ],
    ids=["chromium", "windows", "firefox"],
)
async def test_the_server_learns_which_extension_calls(
    home: Home, caller: tuple[str, ...], principal: str
) -> None:
    async with serving(home.run, echo), home.port(*caller) as port:
        assert await port.ask("who") == ["responses", principal, ["infer", "manage"]]


async def test_many_ports_are_served_at_once(home: Home) -> None:
    async with serving(home.run, echo), home.port() as one, home.port() as other:
        assert await one.ask([1]) == [1]
        assert await other.ask([2]) == [2]
        assert await one.ask([3]) == [3]


@pytest.mark.parametrize(
    "caller",
    [(STRANGER,), (ORIGIN.rstrip("/"),), ("chrome-extension://",), ("manifest.json", "x@y.org")],
)
async def test_an_extension_that_is_not_installed_is_refused(
    home: Home, caller: tuple[str, ...]
) -> None:
    async with serving(home.run, echo), home.port(*caller) as port:
        answer = await port.ask(PING)
        assert await port.ended() == 1
    assert (answer["status"], answer["requestId"]) == ("error", "r1")
    assert answer["code"] == "origin_not_allowed"


@pytest.mark.parametrize("caller", ['x", "y', "com.tabagent.host", "path", "\x1b[2J", "allowed\\"])
async def test_only_a_whole_entry_of_the_list_is_an_id(home: Home, caller: str) -> None:
    async with home.port("manifest.json", caller) as port:
        assert (await port.ask(PING))["code"] == "origin_not_allowed"


async def test_a_host_without_its_manifest_lets_nobody_in(home: Home) -> None:
    await anyio.Path(home.root / "host" / shim.CHROMIUM_MANIFEST).unlink()
    async with home.port() as port:
        assert (await port.ask(PING))["code"] == "origin_not_allowed"


async def test_errors_speak_the_dialect_of_the_first_message(home: Home) -> None:
    async with home.port(STRANGER) as port:
        answer = await port.ask({"type": "response.create", "stream_id": "s"})
    assert (answer["type"], answer["stream_id"]) == ("error", "s")
    assert set(answer["error"]) == {"message", "type", "code", "param"}


async def test_an_error_comes_without_any_message_too(home: Home) -> None:
    async with home.port(STRANGER) as port:
        assert (await port.answer())["error"]["code"] == "origin_not_allowed"


async def test_the_end_of_the_input_ends_the_shim_and_its_connection(home: Home) -> None:
    async with accepting(home.run) as acceptor, home.port() as port:
        await port.send("{}")
        with anyio.fail_after(DEADLINE):
            accepted = await acceptor.accept()
            assert await accepted.transport.receive() == "{}"
            await port.aclose()
            assert await port.ended() == 0
            with pytest.raises(TransportClosed):
                await accepted.transport.receive()


async def test_a_browser_that_takes_nothing_any_more_ends_the_shim(home: Home) -> None:
    def start_and_stop_listening() -> subprocess.Popen[bytes]:
        command = [str(home.host.launcher), ORIGIN]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(encode_frame(b"{}"))
        process.stdin.flush()
        process.stdout.close()
        return process

    async with accepting(home.run) as acceptor:
        process = await anyio.to_thread.run_sync(start_and_stop_listening)
        with process, anyio.fail_after(DEADLINE):
            accepted = await acceptor.accept()
            await accepted.transport.send('"anyone there?"')
            assert await anyio.to_thread.run_sync(process.wait, DEADLINE) == 0


async def test_a_server_that_goes_is_reported_once(home: Home) -> None:
    async with home.port() as port:
        async with serving(home.run, echo):
            assert await port.ask(PING) == PING
        answer = await port.answer()
        assert (answer["status"], answer["code"]) == ("error", "shutting_down")
        assert await is_over(port)
        assert await port.ended() == 1


async def test_nothing_is_said_in_the_middle_of_a_frame(home: Home) -> None:
    hello = encode_frame(b'{"type":"tabagent.hello","protocol":1,"version":"0","pid":1}')
    half = encode_frame(b'{"half":"of a frame"}')[:9]

    def serve_half_a_frame(endpoint: Endpoint) -> None:
        accepted, _ = endpoint.socket.accept()
        with accepted:
            accepted.recv(4096)
            accepted.sendall(hello + half)

    with ExitStack() as stack:
        opening = partial(stack.enter_context, open_endpoint(home.run))
        endpoint = await anyio.to_thread.run_sync(opening)
        async with home.port() as port:
            await port.send("{}")
            await anyio.to_thread.run_sync(serve_half_a_frame, endpoint)
            assert await is_over(port)
            assert await port.ended() == 1
        await anyio.to_thread.run_sync(stack.close)


async def test_a_server_of_another_version_is_reported(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "PROTOCOL_VERSION", 2)
    async with serving(home.run, echo), home.port() as port:
        answer = await port.ask(PING)
    assert answer["code"] == "not_supported"
    assert "host install" in answer["error"]


@pytest.mark.skipif(sys.platform == "win32", reason="a user's folders are closed there")
async def test_a_folder_that_others_can_enter_is_not_trusted(home: Home) -> None:
    async with serving(home.run, echo):
        await anyio.Path(home.run).chmod(0o755)
        async with home.port() as port:
            answer = await port.ask(PING)
    assert answer["code"] == "upstream_failed"
    assert "0700" in answer["error"]


async def test_an_oversized_message_is_refused_and_the_port_lives_on(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        assert (await port.ask("x" * (LIMIT - 2)))["type"] == "tabagent.chunk"
        while not (await port.answer())["last"]:
            pass
        answer = await port.ask("x" * (LIMIT - 1))
        assert (answer["type"], answer["error"]["code"]) == ("error", "message_too_big")
        assert await port.ask([1]) == [1]


async def test_an_oversized_message_is_refused_in_the_extensions_words(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        await port.ask(PING)
        answer = await port.ask("x" * LIMIT)
        assert (answer["status"], answer["code"]) == ("error", "message_too_big")


async def test_a_message_of_the_browsers_limit_goes_whole(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        message = text_of(MAX_FRAME_TO_BROWSER)
        await port.send(message)
        assert await port.receive() == message


async def test_a_longer_message_to_the_browser_goes_in_chunks(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        for message in (text_of(MAX_FRAME_TO_BROWSER + 1), json.dumps('"é😀' * 200_000)):
            joiner, joined, frames = ChunkJoiner(LIMIT), None, 0
            await port.send(message)
            with anyio.fail_after(DEADLINE):
                while joined is None:
                    frame = await port.receive()
                    assert len(frame.encode()) <= MAX_FRAME_TO_BROWSER
                    joined, frames = joiner.receive_message(frame), frames + 1
            assert joined == message
            assert frames > 1


async def test_chunks_from_the_browser_are_joined(home: Home) -> None:
    message = json.dumps(["é😀"] * 100)
    async with serving(home.run, echo), home.port() as port:
        for chunk in split_message(message.encode(), 256, "c"):
            await port.send_bytes(chunk)
        assert await port.receive() == message


async def test_a_malformed_chunk_is_answered_and_the_port_lives_on(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        answer = await port.ask({"type": "tabagent.chunk", "id": 1})
        assert answer["error"]["code"] == "invalid_message"
        assert await port.ask([1]) == [1]


async def test_a_frame_that_is_no_text_reaches_the_protocol_as_bytes(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        await port.send_bytes(b"\xff\xfe")
        assert await port.receive() == '"binary"'


async def test_garbage_instead_of_frames_is_answered(home: Home) -> None:
    async with serving(home.run, echo), home.port() as port:
        await port.send_raw(b"hello, this is no frame")
        assert (await port.answer())["error"]["code"] == "message_too_big"


async def test_loopback_tcp_serves_where_there_are_no_unix_sockets(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = partial(open_endpoint, loopback_tcp=True)
    monkeypatch.setattr("tabagent_native.listener.open_endpoint", opening)
    program = home.root / "host" / "shim.py"
    source = await anyio.Path(program).read_text()
    await anyio.Path(program).write_text(source.replace('os.name == "nt"', "True"))
    async with serving(home.run, echo), home.port() as port:
        assert await port.ask("who") == ["responses", ORIGIN.rstrip("/"), ["infer", "manage"]]


def run_shim_code(code: str) -> subprocess.CompletedProcess[bytes]:
    """Run code beside the shim, as the browser's child would."""
    path = [sys.executable, "-IS", "-c", f"import sys; sys.path.append(sys.argv[1]); {code}"]
    folder = os.path.dirname(shim.__file__)
    return subprocess.run([*path, folder], capture_output=True, check=True, timeout=DEADLINE)


def test_stray_output_stays_off_the_frames() -> None:
    done = run_shim_code(
        "import shim, os; browser = shim.Browser(); print('stray', flush=True); "
        "os.system('echo stray child'); browser.write(b'frame')"
    )
    assert done.stdout == b"frame"
    assert done.stderr.split() == [b"stray", b"stray", b"child"]


def test_a_connect_imports_nothing_that_is_slow() -> None:
    done = run_shim_code("import shim; print(*sorted(sys.modules))")
    slow = {"json", "re", "socket", "subprocess", "threading", "typing", "enum", "selectors"}
    assert not slow & set(done.stdout.decode().split())


def test_it_runs_as_a_script_too() -> None:
    command = [sys.executable, "-IS", shim.__file__]
    done = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE)
    assert done.returncode == 1
    assert b"usage: shim.py" in done.stderr


@pytest.mark.parametrize(
    ("environ", "folders"),
    [
        ({}, ["/state/run"]),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, ["/run/user/7/tabagent", "/state/run"]),
        ({"XDG_RUNTIME_DIR": "/run/user/7", "TABAGENT_HOME": "/state"}, ["/state/run"]),
    ],
)
def test_the_socket_is_sought_where_servers_put_it(
    environ: dict[str, str], folders: list[str]
) -> None:
    assert shim.socket_folders("/state", environ) == folders
    assert str(Paths.locate({"TABAGENT_HOME": "/state"}).run) == "/state/run"
    if "TABAGENT_HOME" not in environ and "XDG_RUNTIME_DIR" in environ:
        assert str(Paths.locate(environ).run) == folders[0]
