"""The transport printed in docs/architecture.md works as printed."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketListener
from tabagent.core.errors import TransportClosed
from tabagent.testing import TransportConformance, TransportPair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    """The page's Python block, executed."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 40
    module = ModuleType("line_transport")
    exec(compile(block, str(PAGE), "exec"), module.__dict__)
    return module


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[SocketStream, SocketStream]]:
    """Both ends of a TCP connection on loopback: accepted, dialled."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        (socket_listener,) = listener.listeners
        assert isinstance(socket_listener, SocketListener)
        async with await anyio.connect_tcp("127.0.0.1", port) as dialled:
            async with await socket_listener.accept() as accepted:
                yield accepted, dialled


class TestLineTransport(TransportConformance):
    @pytest.fixture
    async def pair(self, sample: ModuleType) -> AsyncIterator[TransportPair]:
        async with connected() as (accepted, dialled):
            yield TransportPair(sample.LineTransport(accepted), sample.LineTransport(dialled))


@pytest.mark.anyio
async def test_an_endless_line_ends_the_connection(sample: ModuleType) -> None:
    async with connected() as (accepted, dialled), anyio.create_task_group() as tasks:
        tasks.start_soon(dialled.send, b"x" * (2 << 20))
        with pytest.raises(TransportClosed):
            await sample.LineTransport(accepted).receive()
        tasks.cancel_scope.cancel()
