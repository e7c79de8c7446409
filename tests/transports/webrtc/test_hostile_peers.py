"""Peers that send what no stack would: each is cut off, alone and early."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    WEBRTC_DCEP,
    WEBRTC_STRING,
    DataChunk,
)
from tabagent_webrtc.association import MAX_HELD, WINDOW, Association

from tests.transports.webrtc.peers import (
    Caller,
    answers,
    connected,
    echo,
    nothing,
    webrtc_server,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tabagent.core.requests import Principal
    from tabagent.core.transport import Transport

pytestmark = pytest.mark.anyio

WHOLE = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG


def peak_held(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Watch how much the server holds of any peer."""
    most = 0
    excess = Association._excess

    def watched(self: Association) -> str | None:
        nonlocal most
        most = max(most, WINDOW - self._sctp._advertised_rwnd)
        return excess(self)

    monkeypatch.setattr(Association, "_excess", watched)
    return lambda: most


async def test_a_message_of_24_mb_is_cut_off_early_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = peak_held(monkeypatch)
    async with webrtc_server(echo) as port, connected(port) as (_, other):
        async with connected(port) as (hostile, channel):
            hostile.sctp._remote_max_message_size = 0
            channel.channel.send(b"x" * 24_000_000)
            await channel.closed()
        assert WINDOW < held() < 1_000_000
        assert await answers(other)


class Packets:
    """Sends chunks that no stack would, and listens to nobody, until the other end has had it."""

    def __init__(self, caller: Caller, over: anyio.Event) -> None:
        self.over = over
        self.sctp = sctp = caller.sctp
        sctp._handle_data = nothing  # type: ignore[method-assign]
        self.tsn = sctp._local_tsn

    async def send(
        self, flags: int, stream: int, kind: int, data: bytes, seq: int = 0, skip: int = 0
    ) -> None:
        chunk = DataChunk(flags)
        self.tsn += skip
        chunk.tsn = self.tsn % 2**32
        self.tsn += 1
        chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = stream, seq, kind, data
        if self.over.is_set():
            raise ConnectionError
        await self.sctp._send_chunk(chunk)
        await anyio.lowlevel.checkpoint()


async def crumbs_without_end(packets: Packets) -> None:
    while True:
        await packets.send(SCTP_DATA_FIRST_FRAG, 1, WEBRTC_STRING, b"x", seq=1)


async def many_streams(packets: Packets) -> None:
    for stream in range(100):
        await packets.send(SCTP_DATA_FIRST_FRAG, stream + 100, WEBRTC_STRING, b"x")


async def gaps(packets: Packets) -> None:
    while True:
        await packets.send(WHOLE, 7, WEBRTC_STRING, b"x", skip=1)


async def the_same_channel_twice(packets: Packets) -> None:
    await packets.send(WHOLE, 1, WEBRTC_DCEP, b"\x03" + bytes(11), seq=1)


async def no_utf8(packets: Packets) -> None:
    await packets.send(WHOLE, 1, WEBRTC_STRING, b"\xff", seq=1)


async def an_acknowledgement_of_nothing(packets: Packets) -> None:
    await packets.send(WHOLE, 9, WEBRTC_DCEP, b"\x02")


@pytest.mark.parametrize(
    "attack",
    [
        crumbs_without_end,
        many_streams,
        gaps,
        the_same_channel_twice,
        no_utf8,
        an_acknowledgement_of_nothing,
    ],
)
async def test_a_peer_that_breaks_the_rules_is_cut_off_alone(
    attack: Callable[[Packets], Awaitable[None]],
) -> None:
    over = anyio.Event()

    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        try:
            await echo(transport, protocol, principal)
        finally:
            over.set()

    async with webrtc_server(handle) as port, connected(port) as (_, other):
        async with connected(port) as (hostile, channel):
            assert channel.channel.id == 1
            with suppress(ConnectionError):  # cut off while it is at it
                await attack(Packets(hostile, over))
            with anyio.fail_after(10):
                await over.wait()
        assert await answers(other)


async def test_what_nobody_reads_fills_the_window_and_no_more() -> None:
    read = anyio.Event()

    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        await read.wait()
        await echo(transport, protocol, principal)

    async with webrtc_server(handle) as port, connected(port) as (_, channel):
        for _ in range(MAX_HELD // 16_000 + 1):
            channel.channel.send("x" * 16_000)
        await channel.closed()
