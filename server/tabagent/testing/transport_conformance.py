"""What every transport must do, as tests to inherit.

class TestMyTransport(TransportConformance):
    @pytest.fixture
    async def pair(self) -> AsyncIterator[TransportPair]:
        ...
        yield TransportPair(accepted, dialled, dialled.send_bytes)
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import anyio.lowlevel
import pytest
from msgspec import Struct

from tabagent.core.errors import TransportClosed
from tabagent.core.transport import Transport

__all__ = ["TransportConformance", "TransportPair"]

SendBytes: TypeAlias = Callable[[bytes], Awaitable[None]]

DEADLINE = 20.0
TEXTS = ("{}", '"é€😀 \u2028"', *map(json.dumps, ['"\\', "two\nlines", "\0", "é€😀", [None, 1.5]]))


class TransportPair(Struct, frozen=True):
    """The transport under test and who talks to it.

    Attributes:
        local: The transport under test, as a listener hands it out.
        peer: The other end, behind the same interface.
        send_binary: Sends a binary frame from the peer; None where the wire has none.
    """

    local: Transport
    peer: Transport
    send_binary: SendBytes | None = None


class TransportConformance:
    """Inherit it and override the fixture `pair`."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def pair(self) -> TransportPair:
        """Two connected transports."""
        raise NotImplementedError

    async def test_messages_arrive_whole_and_in_order(self, pair: TransportPair) -> None:
        messages = [json.dumps(number) for number in range(200)]
        for sender, receiver in ((pair.local, pair.peer), (pair.peer, pair.local)):
            assert await _carry(sender, receiver, messages) == messages

    async def test_every_text_arrives_unchanged(self, pair: TransportPair) -> None:
        assert await _carry(pair.local, pair.peer, TEXTS) == list(TEXTS)
        assert await _carry(pair.peer, pair.local, TEXTS) == list(TEXTS)

    async def test_a_big_message_arrives_whole(self, pair: TransportPair) -> None:
        limit = pair.local.max_message_size
        size = 40_000 if limit is None else min(40_000, limit // 8)
        message = json.dumps("€uro " * size, ensure_ascii=False)
        assert await _carry(pair.local, pair.peer, [message]) == [message]
        assert await _carry(pair.peer, pair.local, [message]) == [message]

    async def test_both_directions_work_at_once(self, pair: TransportPair) -> None:
        messages = [json.dumps([number] * 100) for number in range(300)]
        received: dict[str, list[str | bytes]] = {}

        async def carry(name: str, sender: Transport, receiver: Transport) -> None:
            received[name] = await _carry(sender, receiver, messages)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(carry, "out", pair.local, pair.peer)
            tasks.start_soon(carry, "in", pair.peer, pair.local)
        assert received == {"out": messages, "in": messages}

    async def test_a_binary_frame_arrives_as_bytes(self, pair: TransportPair) -> None:
        if pair.send_binary is None:
            pytest.skip("the wire has no binary frames")
        with anyio.fail_after(DEADLINE):
            await pair.send_binary(b"\x00\xff")
            assert await pair.local.receive() == b"\x00\xff"
        assert await _carry(pair.peer, pair.local, ['"still here"']) == ['"still here"']

    async def test_a_slow_reader_loses_and_reorders_nothing(self, pair: TransportPair) -> None:
        messages = [json.dumps([number, "x" * 20_000]) for number in range(500)]
        sent = 0

        async def send() -> None:
            nonlocal sent
            for message in messages:
                await pair.local.send(message)
                sent += 1

        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                assert sent < len(messages), "the sender must wait for a peer that takes nothing"
                assert [await pair.peer.receive() for _ in messages] == messages

    async def test_the_peer_can_close(self, pair: TransportPair) -> None:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expect_closed, pair.local)
                await anyio.wait_all_tasks_blocked()
                await pair.peer.aclose()
        await _expect_send_fails(pair.local)

    async def test_closing_ends_a_receive_under_way(self, pair: TransportPair) -> None:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expect_closed, pair.local)
                await anyio.wait_all_tasks_blocked()
                await pair.local.aclose()

    async def test_closing_reaches_the_peer_and_may_be_repeated(self, pair: TransportPair) -> None:
        with anyio.fail_after(DEADLINE):
            await pair.local.aclose()
            await pair.local.aclose()
            await _expect_closed(pair.peer)
        await _expect_closed(pair.local)
        await _expect_send_fails(pair.local)

    async def test_what_was_sent_before_closing_arrives(self, pair: TransportPair) -> None:
        with anyio.fail_after(DEADLINE):
            await pair.local.send('"last words"')
            await pair.local.aclose()
            assert await pair.peer.receive() == '"last words"'
            await _expect_closed(pair.peer)


async def _carry(
    sender: Transport, receiver: Transport, messages: Sequence[str]
) -> list[str | bytes]:
    """Send messages from one end while the other receives as many."""

    async def send() -> None:
        for message in messages:
            await sender.send(message)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            received = [await receiver.receive() for _ in messages]
    return received


async def _expect_closed(transport: Transport) -> None:
    with pytest.raises(TransportClosed):
        await transport.receive()


async def _expect_send_fails(transport: Transport) -> None:
    """A send may still be taken while the close travels; not for ever."""

    async def send_for_ever() -> None:
        while True:
            await transport.send('"anyone there?"')
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(DEADLINE), pytest.raises(TransportClosed):
        await send_for_ever()
