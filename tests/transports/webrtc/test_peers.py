"""What peers may do: channels, long messages, silence, leaving; and a server that stops."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.lowlevel
import pytest
from aiortc.rtcsctptransport import (
    HeartbeatAckChunk,
)
from tabagent.core.errors import RequestError
from tabagent_webrtc import WebRTCListener
from tabagent_webrtc.limits import PeerLimits

from tests.transports.webrtc.peers import (
    SDP,
    Caller,
    Channel,
    answers,
    call_http,
    calling,
    connected,
    echo,
    eventually,
    nothing,
    webrtc_server,
)

if TYPE_CHECKING:
    from tabagent.core.requests import Principal
    from tabagent.core.transport import Transport

pytestmark = pytest.mark.anyio

MAX_CHANNELS = 4


async def refusal(channel: Channel) -> str:
    """Return the code with which a channel is refused and closed."""
    await channel.opened()
    code: str = (await channel.event())["error"]["code"]
    await channel.closed()
    return code


async def test_channels_of_one_peer_are_connections_of_their_own() -> None:
    async with webrtc_server(echo) as port, connected(port) as (caller, ours):
        realtime = await caller.open("oai-events").opened()
        await realtime.send('"who"')
        await ours.send('"who"')
        assert (await realtime.event())["protocol"] == "realtime"
        assert (await ours.event())["protocol"] == "responses"
        await realtime.aclose()
        await realtime.closed()
        assert await answers(ours)


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("chat", {}),
        ("", {}),
        ("tabagent", {"ordered": False}),
        ("tabagent", {"maxRetransmits": 0}),
        ("tabagent", {"maxPacketLifeTime": 100}),
    ],
)
async def test_a_channel_we_cannot_serve_is_refused_and_the_others_live(
    label: str, options: dict[str, Any]
) -> None:
    async with webrtc_server(echo) as port, connected(port) as (caller, channel):
        assert await refusal(caller.open(label, **options)) == "invalid_parameter"
        assert await answers(channel)


async def test_a_peer_has_a_few_channels_at_most() -> None:
    async with webrtc_server(echo) as port, connected(port) as (caller, channel):
        for _ in range(MAX_CHANNELS - 1):
            assert await answers(await caller.open().opened())
        assert await refusal(caller.open()) == "overloaded"
        assert await answers(channel)


async def test_a_protocol_that_is_not_there_is_refused_on_its_channel_only() -> None:
    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        if protocol == "realtime":
            raise RequestError("not_supported", "no protocol 'realtime' is installed")
        await echo(transport, protocol, principal)

    async with webrtc_server(handle) as port, connected(port) as (caller, channel):
        assert await refusal(caller.open("oai-events")) == "not_supported"
        assert await answers(channel)


async def test_a_long_message_goes_in_chunks_both_ways() -> None:
    async with webrtc_server(echo) as port, connected(port) as (_, channel):
        message = json.dumps("é" * 500_000, ensure_ascii=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send, message)
            assert await channel.receive() == message


async def test_a_message_that_is_too_long_is_refused_and_the_channel_lives() -> None:
    async with webrtc_server(echo, max_message_size=64 * 1024) as port:
        async with connected(port) as (_, channel):
            await channel.send_frame(json.dumps("x" * 70_000))
            assert (await channel.event())["error"]["code"] == "message_too_big"
            await channel.send(json.dumps("x" * 70_000))
            assert (await channel.event())["error"]["code"] == "message_too_big"
            assert await answers(channel)


async def test_a_foreign_dialect_never_gets_chunks() -> None:
    async with webrtc_server(echo) as port, connected(port, "oai-events") as (_, channel):
        message = json.dumps("x" * 100_000)
        await channel.send_frame(message)
        assert await channel.receive() == message
        chunk = '{"type":"tabagent.chunk","id":"1","index":0,"last":true,"data":"1"}'
        await channel.send_frame(chunk)
        assert await channel.receive() == chunk


async def test_an_answer_that_fits_no_message_is_told_about() -> None:
    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        await transport.receive()
        await transport.send("x" * 300_000)
        await echo(transport, protocol, principal)

    async with webrtc_server(handle) as port, connected(port, "oai-events") as (_, channel):
        await channel.send("1")
        assert (await channel.event())["error"]["code"] == "message_too_big"
        assert await answers(channel)


async def test_small_messages_gather_behind_those_under_way() -> None:
    sent, started, go = 0, anyio.Event(), anyio.Event()

    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        nonlocal sent
        await transport.receive()
        started.set()
        await go.wait()
        for number in range(1000):
            await transport.send(json.dumps([number, "x" * 50]))
            sent += 1

    async with webrtc_server(handle) as port, connected(port) as (caller, channel):
        await channel.send("1")
        await started.wait()
        caller.sctp._handle_data = nothing  # type: ignore[method-assign]
        go.set()
        await eventually(lambda: sent > 0)
        await anyio.wait_all_tasks_blocked()
        assert sent < 1000, "nothing is acknowledged, so the next message waits"


class Impatient(WebRTCListener):
    limits: ClassVar[PeerLimits] = PeerLimits(heartbeat=0.05, dead_after=0.5)


class Attentive(WebRTCListener):
    limits: ClassVar[PeerLimits] = PeerLimits(heartbeat=0.02, dead_after=10.0)


class Tidy(WebRTCListener):
    limits: ClassVar[PeerLimits] = PeerLimits(heartbeat=0.05, idle_timeout=0.2, connect_timeout=0.2)


async def test_a_peer_that_vanishes_frees_its_slot() -> None:
    left = anyio.Event()

    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        try:
            await echo(transport, protocol, principal)
        finally:
            left.set()

    async with webrtc_server(handle, listener=Impatient, max_peers=1) as port:
        async with connected(port) as (caller, channel):
            assert await answers(channel)
            caller.vanish()
            with anyio.fail_after(20):
                await left.wait()
            await until_there_is_room(port)


async def until_there_is_room(port: int) -> None:
    async with calling(port) as caller:
        caller.open()
        offer = (await caller.offer()).encode()
        with anyio.fail_after(20):
            while (await call_http(port, "POST", body=offer, headers=SDP)).status == 429:
                pass


async def test_a_quiet_peer_that_lives_is_asked_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = 0

    async with webrtc_server(echo, listener=Attentive) as port:
        async with connected(port) as (caller, channel):
            send = caller.sctp._send_chunk

            async def count(chunk: Any) -> None:
                nonlocal answered
                answered += isinstance(chunk, HeartbeatAckChunk)
                await send(chunk)

            monkeypatch.setattr(caller.sctp, "_send_chunk", count)
            await eventually(lambda: answered >= 3)
            assert await answers(channel)


async def test_a_peer_without_messages_is_let_go() -> None:
    async with webrtc_server(echo, listener=Tidy) as port, connected(port) as (_, channel):
        await channel.closed()


async def test_a_peer_that_never_comes_frees_its_slot() -> None:
    async with webrtc_server(echo, listener=Tidy, max_peers=1) as port:
        async with calling(port) as caller:
            caller.open()
            offer = (await caller.offer()).encode()
            assert (await call_http(port, "POST", body=offer, headers=SDP)).status == 201
            await until_there_is_room(port)


async def test_a_page_that_closes_its_connection_ends_its_session() -> None:
    left = anyio.Event()

    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        try:
            await echo(transport, protocol, principal)
        finally:
            left.set()

    async with webrtc_server(handle) as port:
        async with connected(port) as (caller, channel):
            assert await answers(channel)
            await caller.pc.close()
            with anyio.fail_after(10):
                await left.wait()


async def test_a_session_that_the_server_ends_takes_the_peer_with_it() -> None:
    async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
        await transport.receive()

    async with webrtc_server(handle) as port, connected(port) as (caller, channel):
        other = await caller.open().opened()
        await channel.send('"bye"')
        await channel.closed()
        await other.closed()


async def test_a_server_that_stops_hangs_up() -> None:
    async with webrtc_server(echo) as port:
        caller = Caller(port)
        channel = caller.open()
        await caller.call()
        await channel.opened()
    await channel.closed()
    await caller.pc.close()


async def test_a_quiet_channel_is_pinged_where_the_dialect_knows_pings() -> None:
    async with webrtc_server(echo, ping_interval=0.02) as port:
        async with connected(port) as (caller, channel):
            assert await channel.event() == {"type": "tabagent.ping"}
            realtime = await caller.open("oai-events").opened()
            for _ in range(3):
                await channel.until("tabagent.ping")
            await realtime.send('"first"')
            assert await realtime.receive() == '"first"'
