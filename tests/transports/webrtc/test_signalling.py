"""Offers and answers, over HTTP and over a WebSocket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from tabagent.core.access import AccessPolicy
from tabagent.core.ice import IceConfig, parse_ice_server
from tabagent.core.requests import Principal
from tabagent_webrtc import WebRTCListener
from tabagent_webrtc.limits import OfferRate
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.transports.webrtc.peers import (
    CALLS,
    SDP,
    answers,
    call_http,
    calling,
    connected,
    echo,
    webrtc_server,
)

if TYPE_CHECKING:
    from tabagent.core.transport import ListenerContext, Transport

pytestmark = pytest.mark.anyio

PAGE = "https://page.test"
STRICT = AccessPolicy(token="secret", require_token=True, origins=[PAGE])
BEARER = {"Authorization": "Bearer secret"}
DATA = b"v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"


def form(**parts: str) -> tuple[bytes, dict[str, str]]:
    """Write a multipart body as the OpenAI SDK does, and its headers."""
    lines = []
    for name, content in parts.items():
        lines += ["--edge", f'Content-Disposition: form-data; name="{name}"', "", content]
    body = "\r\n".join([*lines, "--edge--", ""])
    return body.encode(), {"Content-Type": "multipart/form-data; boundary=edge"}


async def test_an_offer_is_answered_with_the_place_of_the_call() -> None:
    async with webrtc_server(echo) as port, calling(port) as caller:
        channel = caller.open()
        answer = await caller.call()
        assert answer.headers["content-type"] == "application/sdp"
        assert caller.location.startswith(f"{CALLS}/rtc_")
        await (await channel.opened()).send('"who"')
        assert await channel.event() == {"protocol": "responses", "caller": "local"}


async def test_deleting_the_place_hangs_up_once() -> None:
    async with webrtc_server(echo) as port, calling(port) as caller:
        channel = caller.open()
        await caller.call()
        await channel.opened()
        assert (await call_http(port, "DELETE", caller.location)).status == 200
        await channel.closed()
        assert (await call_http(port, "DELETE", caller.location)).status == 404


async def test_the_sdk_hangs_up_by_a_route_of_its_own() -> None:
    async with webrtc_server(echo) as port, calling(port) as caller:
        channel = caller.open()
        await caller.call()
        await channel.opened()
        assert (await call_http(port, "POST", f"{caller.location}/hangup")).status == 200
        await channel.closed()


async def test_nobody_else_hangs_up() -> None:
    access = AccessPolicy(token="secret")
    async with webrtc_server(echo, access=access) as port, calling(port) as caller:
        channel = caller.open()
        await caller.call()
        await channel.opened()
        assert (await call_http(port, "DELETE", caller.location, b"", BEARER)).status == 404
        await channel.send('"still here"')
        assert await channel.receive() == '"still here"'


async def tell_opening(transport: Transport, protocol: str, principal: Principal) -> None:
    await transport.send(json.dumps([protocol, transport.opening]))
    await transport.receive()


async def test_a_session_in_a_form_is_what_realtime_channels_begin_with() -> None:
    async with webrtc_server(tell_opening) as port, calling(port) as caller:
        realtime, ours = caller.open("oai-events"), caller.open()
        body, headers = form(sdp=await caller.offer(), session='{"type":"realtime"}')
        answer = await call_http(port, "POST", CALLS, body, headers)
        assert answer.status == 201
        await caller.take(answer.body.decode())
        assert await realtime.receive() == '["realtime", {"type": "realtime"}]'
        assert await ours.receive() == '["responses", {}]'


async def test_a_client_secret_brings_its_session() -> None:
    access = AccessPolicy(token="secret", require_token=True)
    issuer = Principal("token", frozenset({"infer"}))
    secret = access.issue_secret(issuer, 60, {"instructions": "brief"})
    async with webrtc_server(tell_opening, access=access) as port, calling(port) as caller:
        channel = caller.open("oai-events")
        await caller.call({"Authorization": f"Bearer {secret.value}"})
        assert await channel.receive() == '["realtime", {"instructions": "brief"}]'


async def test_an_offer_with_a_microphone_is_answered_without_sound() -> None:
    async with webrtc_server(echo) as port, calling(port) as caller:
        caller.pc.addTransceiver("audio", direction="sendrecv")
        channel = caller.open()
        answer = (await caller.call()).body.decode()
        audio = answer.split("m=audio")[1].split("m=application")[0]
        assert "a=inactive" in audio
        await (await channel.opened()).send("1")
        assert await channel.receive() == "1"


BROKEN = DATA + b"a=ice-ufrag:x\r\na=ice-pwd:y\r\na=setup:wrong\r\n"

REFUSALS: list[tuple[bytes, dict[str, str], tuple[int, str]]] = [
    (b"", SDP, (400, "invalid_message")),
    (b"hello", SDP, (400, "invalid_message")),
    (b"v=0\r\n", SDP, (400, "invalid_message")),
    (DATA, SDP, (400, "invalid_message")),
    (BROKEN, SDP, (400, "invalid_message")),
    (DATA + b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", SDP, (501, "not_supported")),
    (DATA + b"a=x\r\n" * 4096, SDP, (413, "message_too_big")),
    (b"v=0\r\n" * 16_384, SDP, (413, "message_too_big")),
    (DATA, {}, (400, "invalid_message")),
    (DATA, {"Content-Type": "application/json"}, (400, "invalid_message")),
    (DATA, {"Content-Type": "multipart/form-data"}, (400, "invalid_parameter")),
    (*form(session="{}"), (400, "invalid_parameter")),
    (*form(sdp=DATA.decode(), session="[]"), (400, "invalid_parameter")),
    (*form(sdp=DATA.decode(), session="{"), (400, "invalid_parameter")),
]


async def test_what_is_no_offer_is_refused_and_takes_no_place() -> None:
    async with webrtc_server(echo, max_peers=1) as port, calling(port) as caller:
        for body, headers, expected in REFUSALS:
            answer = await call_http(port, "POST", CALLS, body, headers)
            assert (answer.status, answer.code) == expected, body[:80]
        channel = caller.open()
        await caller.call()
        await channel.opened()


async def test_one_peer_too_many_is_told_to_come_back() -> None:
    async with webrtc_server(echo, max_peers=1) as port, calling(port) as caller:
        channel = caller.open()
        await caller.call()
        await channel.opened()
        async with calling(port) as other:
            other.open()
            offer = (await other.offer()).encode()
            refused = await call_http(port, "POST", CALLS, offer, SDP)
            assert (refused.status, refused.code) == (429, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            await call_http(port, "DELETE", caller.location)
            await channel.closed()
            while (await call_http(port, "POST", CALLS, offer, SDP)).status == 429:
                pass


class Slow(WebRTCListener):
    def __init__(self, context: ListenerContext) -> None:
        super().__init__(context)
        self._offers = OfferRate(burst=1, per_second=1e-6)


async def test_offers_come_at_a_bounded_rate() -> None:
    async with webrtc_server(echo, listener=Slow) as port:
        async with calling(port) as caller:
            caller.open()
            await caller.call()
        async with calling(port) as caller:
            caller.open()
            refused = await call_http(port, "POST", CALLS, (await caller.offer()).encode(), SDP)
            assert (refused.status, refused.code) == (429, "overloaded")


def test_a_bucket_fills_again() -> None:
    rate = OfferRate(burst=2, per_second=1e9)
    assert [rate.wait_for_next() for _ in range(100)] == [0.0] * 100


async def test_a_page_gets_to_see_where_its_call_is() -> None:
    access = AccessPolicy(origins=[PAGE])
    async with webrtc_server(echo, access=access) as port, calling(port) as caller:
        caller.open()
        answer = await caller.call({"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Location" in answer.headers["access-control-expose-headers"]


ICE = IceConfig(
    (parse_ice_server("stun:stun.test"), parse_ice_server("turn:turn.test")), "relay", "secret"
)


async def test_the_ice_servers_are_told_before_and_with_the_answer() -> None:
    async with webrtc_server(echo, ice=ICE) as port:
        answer = await call_http(port, "GET")
        told = json.loads(answer.body)
        assert answer.headers["cache-control"] == "no-store"
        assert told["iceTransportPolicy"] == "relay"
        assert told["iceServers"][0] == {"urls": "stun:stun.test"}
        assert set(told["iceServers"][1]) == {"urls", "username", "credential"}


async def test_the_answer_links_to_the_ice_servers() -> None:
    # A STUN server is asked for an address: one where nobody listens refuses at once.
    ice = IceConfig((parse_ice_server("turn:me:pw@127.0.0.1:9?transport=tcp"),))
    async with webrtc_server(echo, ice=ice) as port, calling(port) as caller:
        caller.open()
        link = (await caller.call()).headers["link"]
        assert link.startswith('<turn:127.0.0.1:9?transport=tcp>; rel="ice-server"; username="me"')


async def test_an_offer_does_not_wait_long_for_a_server_that_does_not_answer() -> None:
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as silent:
        server = parse_ice_server(f"stun:127.0.0.1:{silent.extra(SocketAttribute.local_port)}")
        asked = 0

        async def count() -> None:
            nonlocal asked
            async for _ in silent:
                asked += 1

        async with (
            webrtc_server(echo, ice=IceConfig((server,))) as port,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(count)
            async with connected(port) as (caller, channel):
                assert await answers(channel)
                lines = caller.pc.remoteDescription.sdp.splitlines()
                addresses = [line for line in lines if "typ host" in line and "::" not in line]
            tasks.cancel_scope.cancel()
        # Asked at 0, 0.5, 1.5 and 3.5 s from each address: the last comes after the answer.
        assert 0 < asked < 4 * len(addresses)


async def exchange(socket: ClientConnection, **message: Any) -> dict[str, Any]:
    await socket.send(json.dumps(message))
    reply: dict[str, Any] = json.loads(await socket.recv())
    return reply


async def test_a_websocket_carries_an_offer_its_answer_and_the_end() -> None:
    async with webrtc_server(echo) as port, calling(port) as caller:
        channel = caller.open()
        async with connect(f"ws://127.0.0.1:{port}{CALLS}") as socket:
            first = json.loads(await socket.recv())
            assert first["type"] == "rtc.configuration"
            assert first["configuration"] == {"iceServers": [], "iceTransportPolicy": "all"}
            answer = await exchange(socket, type="rtc.offer", id="1", sdp=await caller.offer())
            assert (answer["type"], answer["id"]) == ("rtc.answer", "1")
            await caller.take(answer["sdp"])
            await channel.opened()
            over = await exchange(socket, type="rtc.hangup", call_id=answer["call_id"])
            assert over == {"type": "rtc.hangup", "call_id": answer["call_id"]}
            await channel.closed()


async def test_candidates_may_come_after_the_offer() -> None:
    async with webrtc_server(echo) as port, calling(port) as caller:
        channel = caller.open()
        offer = await caller.offer()
        lines = [line for line in offer.splitlines() if line.startswith("a=candidate:")]
        bare = "\r\n".join(line for line in offer.splitlines() if line not in lines) + "\r\n"
        async with connect(f"ws://127.0.0.1:{port}{CALLS}") as socket:
            await socket.recv()
            answer = await exchange(socket, type="rtc.offer", sdp=bare)
            for line in (*lines, "a=candidate:1 1 udp 1 x.local 1 typ host"):
                candidate = {"candidate": line[2:], "sdpMid": "0", "sdpMLineIndex": 0}
                message = {"type": "rtc.candidate", "call_id": answer["call_id"]}
                await socket.send(json.dumps(message | {"candidate": candidate}))
            await caller.take(answer["sdp"])
            await channel.opened()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_message"),
        ('{"type":"rtc.dance"}', "unknown_type"),
        ('{"type":"rtc.offer","sdp":"hello"}', "invalid_message"),
        ('{"type":"rtc.offer","sdp":"v=0","session":1}', "invalid_parameter"),
        ('{"type":"rtc.hangup","call_id":"rtc_1"}', "invalid_parameter"),
        ('{"type":"rtc.candidate","call_id":"rtc_1"}', "invalid_parameter"),
    ],
)
async def test_a_bad_message_is_answered_and_the_socket_lives_on(message: str, code: str) -> None:
    async with (
        webrtc_server(echo) as port,
        connect(f"ws://127.0.0.1:{port}{CALLS}") as socket,
    ):
        await socket.recv()
        for _ in range(2):
            await socket.send(message)
            reply = json.loads(await socket.recv())
            assert (reply["type"], reply["error"]["code"]) == ("error", code)


async def test_a_socket_is_for_those_who_may_call() -> None:
    async with webrtc_server(echo, access=STRICT) as port:
        url = f"ws://127.0.0.1:{port}{CALLS}"
        with pytest.raises(InvalidStatus) as caught:
            await connect(url)
        assert caught.value.response.status_code == 401
        offered: Any = ["realtime", "openai-insecure-api-key.secret"]
        async with connect(url, subprotocols=offered) as socket:
            assert socket.subprotocol == "realtime"


async def test_a_call_needs_the_token_where_one_is_needed() -> None:
    async with webrtc_server(echo, access=STRICT) as port, calling(port) as caller:
        channel = caller.open()
        offer = (await caller.offer()).encode()
        refused = await call_http(port, "POST", CALLS, offer, SDP)
        assert (refused.status, refused.code) == (401, "token_required")
        answer = await call_http(port, "POST", CALLS, offer, SDP | BEARER)
        await caller.take(answer.body.decode())
        await (await channel.opened()).send('"who"')
        assert await channel.event() == {"protocol": "responses", "caller": "token"}
