"""The host starts the server, leaves it running, and finds it again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tabagent_native import NativeListener

from tests.transports.native.ports import DEADLINE, ORIGIN, Home, Port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tabagent.core.transport import RunningServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="asks for the server's end with flock"),
]


class Daemon(Home):
    """A home whose server speaks through the echo backend, on a port of its own."""

    def configure(self, **settings: Any) -> None:
        """Write `config.toml`; port 0 is a free one."""
        values = {"model": ["echo:x"], "port": 0, "log_level": "debug"} | settings
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (self.root / "config.toml").write_text("\n".join(lines))

    def find(self) -> RunningServer | None:
        return NativeListener.find_server(self.run)

    def process(self) -> int:
        found = self.find()
        assert found is not None
        return found.pid

    def wait_for_end(self) -> None:
        """Wait until no server that a shim started lives: each holds this lock till its end."""
        with (self.run / "start.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    def log(self) -> str:
        return (self.root / "server.log").read_text()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `tabagent` as this home's user."""
        return subprocess.run(
            [sys.executable, "-m", "tabagent", *words],
            capture_output=True,
            check=False,
            text=True,
            timeout=DEADLINE,
            env={**os.environ, "TABAGENT_HOME": str(self.root), "HOME": str(self.root / "user")},
        )


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    daemon = Daemon(home.root)
    daemon.configure()
    yield daemon
    found = daemon.find()
    if found is not None:
        os.kill(found.pid, signal.SIGKILL)
        daemon.wait_for_end()


async def models(port: Port) -> Any:
    answer = await port.ask({"type": "tabagent.model.list"})
    assert answer["type"] == "tabagent.model.list", answer
    return answer["data"]


async def in_thread(function: Any, *arguments: Any) -> Any:
    with anyio.fail_after(DEADLINE):
        return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)


async def test_the_first_port_starts_the_server_and_the_next_finds_it(daemon: Daemon) -> None:
    async with daemon.port() as port:
        assert [model["id"] for model in await models(port)] == ["echo:x"]
        process = await in_thread(daemon.process)
    async with daemon.port() as port:
        await models(port)
    assert await in_thread(daemon.process) == process
    assert "TabAgent is ready" in await in_thread(daemon.log)
    assert stat.S_IMODE((await anyio.Path(daemon.root / "server.log").stat()).st_mode) == 0o600


async def test_an_answer_streams_through_the_whole_chain(daemon: Daemon) -> None:
    async with daemon.port() as port:
        await port.send(json.dumps({"type": "response.create", "input": "tell me, chain"}))
        text = ""
        kinds: list[str] = []
        while not kinds or kinds[-1] != "response.completed":
            event = await port.answer()
            kinds.append(event["type"])
            text += event.get("delta", "")
    assert kinds[0] == "response.created"
    assert "chain" in text


async def test_ports_opened_at_once_start_one_server(daemon: Daemon) -> None:
    async with anyio.create_task_group() as tasks:

        async def open_port() -> None:
            async with daemon.port() as port:
                await models(port)

        for _ in range(3):
            tasks.start_soon(open_port)
    assert (await in_thread(daemon.log)).count("TabAgent is ready") == 1


async def test_the_server_goes_on_without_a_port_that_is_taken(daemon: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        await in_thread(lambda: daemon.configure(port=taken.getsockname()[1]))
        async with daemon.port() as port:
            await models(port)
        status = await in_thread(daemon.command, "status", "--json")
    assert "no HTTP" in await in_thread(daemon.log)
    found = json.loads(status.stdout)
    assert (found["running"], found["pid"]) == (True, await in_thread(daemon.process))
    assert "url" not in found


async def test_a_model_that_cannot_be_loaded_is_told_to_who_asks_for_it(daemon: Daemon) -> None:
    broken = daemon.root / "broken.gguf"
    await anyio.Path(broken).write_bytes(b"GGUF")
    await in_thread(lambda: daemon.configure(model=[str(broken), "echo:x"]))
    async with daemon.port() as port:
        for model, code in (("broken", "gguf_invalid"), ("echo:x", None)):
            await port.send(json.dumps({"type": "response.create", "model": model, "input": "x"}))
            event: dict[str, Any] = {"type": ""}
            while event["type"] not in {"error", "response.failed", "response.completed"}:
                event = await port.answer()
            # An error when the load has failed already, a failed response when it is under way.
            error = event.get("error") or event["response"]["error"]
            assert (error and error["code"]) == code


async def test_a_server_that_cannot_start_is_reported_with_its_reason(daemon: Daemon) -> None:
    await in_thread(lambda: daemon.configure(parallel="many"))
    async with daemon.port() as port:
        answer = await port.ask({"action": "ping", "requestId": "r"})
        assert await port.ended() == 1
    assert (answer["code"], answer["requestId"]) == ("upstream_failed", "r")
    assert "parallel in" in answer["error"]
    assert "server.log" in answer["error"]


async def test_a_killed_server_is_reported_and_the_next_port_starts_another(
    daemon: Daemon,
) -> None:
    async with daemon.port() as port:
        await models(port)
        killed = await in_thread(daemon.process)
        os.kill(killed, signal.SIGKILL)
        assert (await port.answer())["error"]["code"] == "shutting_down"
        assert await port.ended() == 1
    async with daemon.port() as port:
        await models(port)
    assert await in_thread(daemon.process) != killed


async def test_the_browsers_end_while_the_server_starts_ends_the_shim_only(daemon: Daemon) -> None:
    async with daemon.port() as port:
        await port.aclose()
        assert await port.ended() == 0
    async with daemon.port() as port:
        await models(port)
    assert (await in_thread(daemon.log)).count("TabAgent is ready") == 1


async def test_stop_ends_the_server_and_status_says_so(daemon: Daemon) -> None:
    async with daemon.port() as port:
        await models(port)
        running = await in_thread(daemon.command, "status")
        assert (running.returncode, "process" in running.stdout) == (0, True)
        stopped = await in_thread(daemon.command, "stop")
        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert (await port.answer())["error"]["code"] == "shutting_down"
    await in_thread(daemon.wait_for_end)
    assert (await in_thread(daemon.command, "status")).returncode == 1
    again = await in_thread(daemon.command, "stop")
    assert (again.returncode, again.stdout) == (1, "no server is running\n")


async def test_an_idle_server_ends_but_not_while_a_port_is_open(daemon: Daemon) -> None:
    await in_thread(lambda: daemon.configure(idle_exit=0.2))
    async with daemon.port() as port:
        await models(port)
        await in_thread(daemon.command, "host", "status")  # takes longer than that
        await models(port)
    await in_thread(daemon.wait_for_end)
    assert "idle for 0.2 s" in await in_thread(daemon.log)


def test_the_installed_command_manages_the_host(daemon: Daemon) -> None:
    extension = ORIGIN.removeprefix("chrome-extension://").removesuffix("/")
    assert daemon.command("host", "uninstall").returncode == 0
    assert daemon.command("host", "status").returncode == 1
    planned = daemon.command("host", "install", extension, "--dry-run")
    assert planned.stderr == "dry run: nothing was changed\n"
    installed = daemon.command("host", "install", extension)
    assert (installed.returncode, installed.stdout) == (0, planned.stdout)
    status = daemon.command("host", "status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["extensions"] == [extension]
    wrong = daemon.command("host", "install", "not-an-id")
    assert wrong.returncode == 2
    assert "is no extension id" in wrong.stderr
