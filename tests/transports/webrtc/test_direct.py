"""Packets take the short way past aiortc, and arrive as they do on its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

import anyio
import anyio.lowlevel
import pytest
from aiortc.rtcsctptransport import tsn_plus_one
from tabagent_webrtc import association
from tabagent_webrtc.direct import IS_KNOWN, DirectPath, at_once

from tests.transports.webrtc.peers import connected, echo, eventually, webrtc_pair, webrtc_server

if TYPE_CHECKING:
    from aiortc import RTCSctpTransport
    from tabagent_webrtc.channel import DataChannelTransport

pytestmark = pytest.mark.anyio


def sctp_of(transport: object) -> RTCSctpTransport:
    return cast("DataChannelTransport", transport)._association._sctp


def lose(sctp: RTCSctpTransport, one_in: int) -> None:
    """Lose every so manieth packet that goes out."""
    ice = sctp.transport.transport
    send = ice._send
    numbers = itertools.count(1)

    async def sometimes(data: bytes) -> None:
        if next(numbers) % one_in:
            await send(data)

    ice._send = sometimes


def test_the_insides_of_the_installed_versions_are_known() -> None:
    # After an update: read what `direct` uses in the new version, then note that version there.
    assert IS_KNOWN


async def test_a_message_is_under_way_when_send_returns() -> None:
    async with webrtc_pair() as pair:
        before = sctp_of(pair.local)._flight_size
        await pair.local.send('"hello"')
        assert sctp_of(pair.local)._flight_size == before + len('"hello"')
        assert await pair.peer.receive() == '"hello"'


async def test_an_acknowledgement_ends_the_wait_for_one() -> None:
    async with webrtc_pair() as pair:
        sctp = sctp_of(pair.local)
        for _ in range(5):
            await pair.local.send('"hello"')
            assert sctp._t3_handle is not None
            await eventually(lambda: not sctp._sent_queue)
            assert sctp._flight_size == 0
            assert sctp._t3_handle is None
        assert sctp._srtt is not None
        assert sctp._last_sacked_tsn == sctp._advanced_peer_ack_tsn
        assert tsn_plus_one(sctp._last_sacked_tsn) == sctp._local_tsn


async def test_most_acknowledgements_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    take = DirectPath.take_acknowledgement

    def watched(self: DirectPath, packet: bytes) -> bool:
        taken.append(take(self, packet))
        return taken[-1]

    monkeypatch.setattr(DirectPath, "take_acknowledgement", watched)
    async with webrtc_pair() as pair:
        for number in range(20):
            await pair.local.send(f"{number}")
            assert await pair.peer.receive() == f"{number}"
            await eventually(lambda: not sctp_of(pair.local)._sent_queue)
    assert taken.count(True) >= 20


async def test_everything_arrives_in_order_although_packets_are_lost() -> None:
    async with webrtc_pair() as pair:
        lose(sctp_of(pair.local), 7)
        lose(pair.peer.channel.transport, 5)  # type: ignore[attr-defined]

        async def send() -> None:
            for number in range(300):
                await pair.local.send(f"{number}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            assert [await pair.peer.receive() for _ in range(300)] == [f"{n}" for n in range(300)]
        await eventually(lambda: sctp_of(pair.local)._flight_size == 0)


async def test_versions_that_are_not_known_take_aiortcs_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(association, "IS_KNOWN", False)
    async with webrtc_server(echo) as port, connected(port) as (_, channel):
        for number in range(20):
            await channel.send(f"{number}")
            assert await channel.receive() == f"{number}"


async def test_what_has_to_wait_is_not_done_at_once() -> None:
    async def wait() -> None:
        await anyio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match="wait"):
        at_once(wait())
