"""What calls a server from another machine: a peer, and plain HTTP."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from anyio import to_thread
from msgspec import Struct

from tests.transports.webrtc.peers import CALLS, SDP, Channel

if TYPE_CHECKING:
    import ssl


# Makes an answer of hundreds of datagrams, however many tokens go into an event.
VERBOSE: Final[dict[str, Any]] = {
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 5,
}


class Reply(Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: bytes


class Streamed(Struct, frozen=True):
    """An answer over WebRTC.

    Attributes:
        numbers: The numbers of its events, in the order of their arrival.
        path: The kinds of the two addresses that the data went between, ours first.
    """

    text: str
    numbers: list[int]
    path: tuple[str, str]


def ask_http(
    url: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Reply:
    """Send one request."""
    parts = urlsplit(url)
    assert parts.hostname
    if trust is None:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    else:
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=20, context=trust
        )
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    reply = Reply(response.status, response.read())
    connection.close()
    return reply


async def stream_over_webrtc(url: str, token: str, trust: ssl.SSLContext | None = None) -> Streamed:
    """Call the server with the ICE servers that it names; returns one answer of its model."""
    bearer = {"Authorization": f"Bearer {token}"}

    async def ask(method: str, body: bytes | None = None, **headers: str) -> Reply:
        reply = await to_thread.run_sync(
            lambda: ask_http(
                url, CALLS, method=method, body=body, headers=bearer | headers, trust=trust
            )
        )
        assert reply.status in (200, 201), reply
        return reply

    connection = RTCPeerConnection(_configuration(json.loads((await ask("GET")).body)))
    try:
        channel = Channel(connection.createDataChannel("tabagent"))
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp.encode()
        answer = await ask("POST", offer, **SDP)
        await connection.setRemoteDescription(RTCSessionDescription(answer.body.decode(), "answer"))
        await channel.opened()
        await channel.ask(type="response.create", input="Count!", temperature=0, **VERBOSE)
        text, numbers = "", []
        event: dict[str, Any] = {"type": ""}
        while event["type"] != "response.completed":
            event = await channel.event()
            if "sequence_number" in event:
                numbers.append(event["sequence_number"])
            if event["type"] == "response.output_text.delta":
                text += event["delta"]
        return Streamed(text, numbers, _path(connection))
    finally:
        with anyio.CancelScope(shield=True):
            await connection.close()


def _configuration(given: dict[str, Any]) -> RTCConfiguration:
    servers = [RTCIceServer(**server) for server in given["iceServers"]]
    return RTCConfiguration(servers, RTCIceTransportPolicy(given["iceTransportPolicy"]))


def _path(connection: RTCPeerConnection) -> tuple[str, str]:
    assert connection.sctp is not None
    pair = connection.sctp.transport.transport._connection._nominated[1]
    return pair.local_candidate.type, pair.remote_candidate.type
