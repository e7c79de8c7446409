"""A user's folders with an installed host, its server, and browser ports through the real shim."""

from __future__ import annotations

import json
import os
import struct
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from tabagent.core.access import AccessPolicy
from tabagent.core.errors import TransportClosed
from tabagent.core.transport import ListenerContext, Transport
from tabagent.testing import TransportPair
from tabagent_native import NativeListener
from tabagent_native.install import Host, HostFolders
from tabagent_native.manifest import Extensions

from tests.transports.acceptor import Acceptor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from anyio.abc import Process
    from tabagent.core.requests import Principal
    from tabagent.core.transport import ConnectionHandler

EXTENSION = "abcdefghijklmnopabcdefghijklmnop"
ORIGIN = f"chrome-extension://{EXTENSION}/"
ADD_ON = "tabagent@example.org"
LIMIT = 4 * 1024 * 1024
DEADLINE = 20.0


class Home:
    """What `TABAGENT_HOME` names, with the host installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.host = Host(
            HostFolders(root / "host", root, root / "user", root / "user/.config", str(root)),
            "linux",
            sys.executable,
        )
        self.host.install(Extensions.parse([EXTENSION, ADD_ON]))

    @asynccontextmanager
    async def port(self, *caller: str, env: dict[str, str] | None = None) -> AsyncIterator[Port]:
        """Start the host as a browser does, for `ORIGIN` unless told otherwise."""
        command = [str(self.host.launcher), *(caller or (ORIGIN,))]
        process = await anyio.open_process(command, stderr=None, env={**os.environ, **(env or {})})
        port = Port(process)
        try:
            yield port
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()


class Port(Transport):
    """The browser's end of one native messaging port."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._input = process.stdin
        self._output = BufferedByteReceiveStream(process.stdout)

    async def send(self, message: str) -> None:
        await self.send_bytes(message.encode())

    async def send_bytes(self, message: bytes) -> None:
        await self.send_raw(struct.pack("=I", len(message)) + message)

    async def send_raw(self, data: bytes) -> None:
        try:
            await self._input.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise TransportClosed from None

    async def receive(self) -> str:
        try:
            (size,) = struct.unpack("=I", await self._output.receive_exactly(4))
            return (await self._output.receive_exactly(size)).decode() if size else ""
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.ClosedResourceError):
            raise TransportClosed from None

    async def aclose(self) -> None:
        await self._input.aclose()

    async def ask(self, message: Any) -> Any:
        """Send one JSON value and return the next one."""
        await self.send(json.dumps(message))
        return await self.answer()

    async def answer(self) -> Any:
        with anyio.fail_after(DEADLINE):
            return json.loads(await self.receive())

    async def ended(self) -> int:
        """Wait for the process to end; return its exit status."""
        with anyio.fail_after(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    run: Path, handle: ConnectionHandler, max_message_size: int = LIMIT
) -> AsyncIterator[NativeListener]:
    """Run the server's side; leaving stops it, and closes its connections."""
    context = ListenerContext(AccessPolicy(), handle, max_message_size, run=run)
    listener = NativeListener(context)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve)
        with anyio.fail_after(DEADLINE):
            await listener.listening.wait()
        yield listener
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def accepting(run: Path) -> AsyncIterator[Acceptor]:
    """Serve; the connections stay open until this is left."""
    acceptor = Acceptor()
    async with serving(run, acceptor.handle):
        yield acceptor


async def echo(transport: Transport, protocol: str, principal: Principal) -> None:
    """Send every message back; tell what is no text, and who asks."""
    while True:
        message = await transport.receive()
        if isinstance(message, bytes):
            message = '"binary"'
        elif message == '"who"':
            message = json.dumps([protocol, principal.id, sorted(principal.scopes)])
        await transport.send(message)


class PatientPort(Port):
    """A port to which the shim's last word, that the server is gone, is the end."""

    async def receive(self) -> str:
        message = await super().receive()
        if message.startswith('{"type": "error"'):
            assert json.loads(message)["error"]["code"] == "shutting_down"
            raise TransportClosed
        return message


@asynccontextmanager
async def native_pair(root: Path) -> AsyncIterator[TransportPair]:
    """Connect a transport to a browser's port, through a shim."""
    home = await anyio.to_thread.run_sync(Home, root)
    async with accepting(home.run) as acceptor, home.port() as port:
        peer = PatientPort(port.process)
        await peer.send('"first"')
        with anyio.fail_after(DEADLINE):
            accepted = await acceptor.accept()
            assert await accepted.transport.receive() == '"first"'
        yield TransportPair(accepted.transport, peer, peer.send_bytes)
