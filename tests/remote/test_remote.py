"""The recipes of `docs/remote.md`, followed in networks of their own."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from websockets.sync.client import connect

from tests.http.browser import CHROMIUM, Page, open_page
from tests.remote.callers import Reply, Streamed, ask_http, stream_over_webrtc
from tests.remote.conftest import TOKEN
from tests.remote.namespaces import SERVER, TURN
from tests.transports.webrtc.peers import SDP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remote.conftest import Remote
    from tests.remote.namespaces import Network

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}


def call_through_nat(remote: Remote) -> Streamed:
    call = partial(anyio.run, stream_over_webrtc, remote.public, TOKEN, remote.trust)
    return remote.network.peer.inside(call)


def ask_proxy(
    remote: Remote, path: str, headers: dict[str, str], body: bytes | None = None
) -> Reply:
    method = "POST" if body else "GET"
    ask = partial(ask_http, remote.public, path, method=method, body=body, headers=headers)
    return remote.network.peer.inside(partial(ask, trust=remote.trust))


def test_nothing_but_turn_leads_from_the_peer_to_the_server(remote: Remote) -> None:
    def reach() -> None:
        socket.create_connection((SERVER, 8484), timeout=20)

    with pytest.raises(OSError, match=r"unreachable|No route"):
        remote.network.peer.inside(reach)


def test_a_peer_behind_nat_streams_through_turn(remote: Remote) -> None:
    answer = call_through_nat(remote)
    assert answer.path == ("relay", "relay")
    assert answer.text == remote.answer
    assert answer.numbers == list(range(len(answer.numbers)))


def test_nothing_is_lost_where_datagrams_are(remote: Remote) -> None:
    with remote.network.losing(one_in=20) as dropped:
        answer = call_through_nat(remote)
        assert dropped() > 5
    assert answer.path == ("relay", "relay")
    assert answer.text == remote.answer
    assert answer.numbers == list(range(len(answer.numbers)))


def test_the_proxy_passes_on_a_stream(remote: Remote) -> None:
    body = json.dumps({"input": "Count!", "temperature": 0, "stream": True}).encode()
    reply = ask_proxy(remote, "/v1/responses", BEARER | JSON, body)
    lines = [line[6:] for line in reply.body.splitlines() if line.startswith(b"data: {")]
    events = [json.loads(line) for line in lines]
    assert events[-1]["type"] == "response.completed"
    assert "".join(event.get("delta", "") for event in events) == remote.answer


def test_the_proxy_passes_on_a_websocket(remote: Remote) -> None:
    def stream() -> str:
        url = f"wss://{TURN}/v1/responses"
        with connect(url, ssl=remote.trust, additional_headers=BEARER) as websocket:
            websocket.send('{"type": "response.create", "input": "Count!", "temperature": 0}')
            text = ""
            while (event := json.loads(websocket.recv(20)))["type"] != "response.completed":
                if event["type"] == "response.output_text.delta":
                    text += event["delta"]
        return text

    assert remote.network.peer.inside(stream) == remote.answer


def test_behind_the_proxy_a_token_is_needed(remote: Remote) -> None:
    reply = ask_proxy(remote, "/v1/models", {})
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, "token_required")
    assert ask_proxy(remote, "/v1/models", BEARER).status == 200


def test_the_server_believes_what_its_proxy_says_of_the_caller(remote: Remote) -> None:
    # A page from the proxy's own address has an `https` origin, though the server speaks `http`.
    assert ask_proxy(remote, "/health", {"Origin": f"https://{TURN}"}).status == 200
    assert ask_proxy(remote, "/health", {"Origin": f"http://{TURN}"}).status == 403


def test_a_neighbour_needs_neither_turn_nor_a_certificate(
    network: Network, neighbour: str, remote: Remote
) -> None:
    call = partial(anyio.run, stream_over_webrtc, neighbour, TOKEN)
    answer = network.internet.inside(call)
    assert answer.path[0] == "host"
    assert answer.text == remote.answer


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_page_without_a_secure_context_has_data_channels(
    network: Network, neighbour: str, tmp_path: Path
) -> None:
    async def browse() -> tuple[bool, str]:
        async with open_page(neighbour, tmp_path) as page:
            secure = await page.evaluate("isSecureContext")
            return secure, await greet(page)

    secure, greeting = network.internet.inside(partial(anyio.run, browse))
    assert not secure
    assert greeting == "tabagent.pong"


async def greet(page: Page) -> str:
    """Return the type of the server's answer to a ping over a data channel."""
    kind: str = await page.evaluate(
        f"""(async () => {{
            const headers = {json.dumps(BEARER | SDP)};
            const connection = new RTCPeerConnection();
            const channel = connection.createDataChannel("tabagent");
            await connection.setLocalDescription();
            const body = connection.localDescription.sdp;
            const call = {{ method: "POST", headers, body }};
            const answer = await fetch("/v1/realtime/calls", call);
            await connection.setRemoteDescription({{ type: "answer", sdp: await answer.text() }});
            await new Promise((resolve) => {{ channel.onopen = resolve; }});
            channel.send('{{"type": "tabagent.ping"}}');
            const data = await new Promise((resolve) => {{ channel.onmessage = resolve; }});
            connection.close();
            return JSON.parse(data.data).type;
        }})()"""
    )
    return kind
