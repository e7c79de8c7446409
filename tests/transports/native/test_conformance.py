"""Native messaging conforms, through a real shim process, on both event loops."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from tabagent.core.errors import TransportClosed
from tabagent.testing import TransportConformance, TransportPair

from tests.conftest import ASYNCIO, UVLOOP, Loop
from tests.transports.native.ports import DEADLINE, Home, Port, accepting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class PatientPort(Port):
    """A port to which the shim's last word, that the server is gone, is the end."""

    async def receive(self) -> str:
        message = await super().receive()
        if message.startswith('{"type": "error"'):
            assert json.loads(message)["error"]["code"] == "shutting_down"
            raise TransportClosed
        return message


class TestNative(TransportConformance):
    @pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Loop:
        return cast("Loop", request.param)

    @pytest.fixture
    async def pair(self, home: Home) -> AsyncIterator[TransportPair]:
        async with accepting(home.run) as connections, home.port() as port:
            peer = PatientPort(port.process)
            await peer.send('"first"')
            with anyio.fail_after(DEADLINE):
                accepted = await connections.receive()
                assert await accepted.transport.receive() == '"first"'
            yield TransportPair(accepted.transport, peer, peer.send_bytes)
