"""A page in a real browser, talking to a real server over WebRTC."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from tests.e2e.conftest import serving
from tests.http.browser import CHROMIUM, Page, open_page
from tests.transports.webrtc.peers import SDP, call_http, calling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

# What a page needs, and no library: a call, and the events of its channels.
CLIENT = """
class Channel {
  constructor(channel) {
    this.events = []; this.closed = false; this.pieces = []; this.wake = () => {};
    this.channel = channel;
    this.opened = new Promise((resolve) => { channel.onopen = resolve; });
    channel.onclose = () => { this.closed = true; this.wake(); };
    channel.onmessage = ({ data }) => {
      let event = JSON.parse(data);
      if (event.type === "tabagent.chunk") {
        this.pieces.push(event.data);
        if (!event.last) return;
        event = JSON.parse(this.pieces.splice(0).join(""));
      }
      this.events.push(event); this.wake();
    };
  }
  send(message) { this.channel.send(JSON.stringify(message)); }
  async next() {
    while (!this.events.length) {
      if (this.closed) return { type: "closed" };
      await new Promise((resolve) => { this.wake = resolve; });
    }
    return this.events.shift();
  }
  async until(type) {
    const seen = [];
    for (;;) {
      const event = await this.next();
      if (event.type === "response.output_text.delta") seen.push(event.delta);
      if (event.type === type) return { event, text: seen.join(""), pieces: seen.length };
      if (event.type === "closed" || event.type === "error") throw Error(JSON.stringify(event));
    }
  }
}
async function call(labels, { microphone = false } = {}) {
  const settings = await (await fetch("/v1/realtime/calls")).json();
  const connection = new RTCPeerConnection(settings);
  if (microphone) connection.addTransceiver("audio");
  const channels = labels.map((label) => new Channel(connection.createDataChannel(label)));
  await connection.setLocalDescription();
  const answer = await fetch("/v1/realtime/calls", {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: connection.localDescription.sdp,
  });
  if (answer.status !== 201) throw Error(await answer.text());
  await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await Promise.all(channels.map((channel) => channel.opened));
  window.keep = { connection, location: answer.headers.get("Location") };
  return channels;
}
"""

ENDLESS = {"type": "response.create", "input": "word " * 40, "ignore_eos": True}


@pytest.fixture
async def page(echo_server: str, tmp_path: Path) -> AsyncIterator[Page]:
    async with open_page(echo_server, tmp_path) as page:
        yield page


async def run(page: Page, body: str) -> Any:
    """Run the statements in the page, and return what they return."""
    with anyio.fail_after(40):
        return await page.evaluate(f"(async () => {{ {CLIENT} {body} }})()")


async def running(server: str) -> int:
    """How many requests the server decodes."""

    def ask() -> int:
        with urllib.request.urlopen(f"{server}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith("tabagent_requests_running{")]
        return int(found[0].split()[-1])

    return await to_thread.run_sync(ask)


async def until_running(server: str, count: int, seconds: float) -> None:
    with anyio.fail_after(seconds):
        while await running(server) != count:
            await anyio.lowlevel.checkpoint()


async def test_an_answer_streams_into_the_page(page: Page) -> None:
    script = """
        const [channel] = await call(["tabagent"]);
        channel.send({ type: "response.create", input: "One, two, three, four." });
        const { text } = await channel.until("response.completed");
        return text;
    """
    assert await run(page, script) == "One, two, three, four."


async def test_an_offer_with_a_microphone_connects_too(page: Page) -> None:
    script = """
        const [channel] = await call(["tabagent"], { microphone: true });
        channel.send({ type: "tabagent.ping" });
        return (await channel.until("tabagent.pong")).event.type;
    """
    assert await run(page, script) == "tabagent.pong"


async def test_an_answer_is_cancelled(page: Page, echo_server: str) -> None:
    script = f"""
        const [channel] = await call(["tabagent"]);
        channel.send({json.dumps(ENDLESS)});
        const {{ event }} = await channel.until("response.created");
        await channel.until("response.output_text.delta");
        channel.send({{ type: "response.cancel", response_id: event.response.id }});
        return (await channel.until("response.incomplete")).event.response.status;
    """
    assert await run(page, script) == "cancelled"
    await until_running(echo_server, 0, 10)


async def test_two_channels_answer_at_once(page: Page) -> None:
    script = f"""
        const [endless, other] = await call(["tabagent", "tabagent"]);
        endless.send({json.dumps(ENDLESS)});
        await endless.until("response.output_text.delta");
        other.send({{ type: "response.create", input: "meanwhile" }});
        const {{ text }} = await other.until("response.completed");
        await endless.until("response.output_text.delta");
        keep.connection.close();
        return text;
    """
    assert await run(page, script) == "meanwhile"


async def test_a_message_of_a_megabyte_goes_in_chunks_both_ways(page: Page) -> None:
    script = """
        const [channel] = await call(["tabagent"]);
        const input = Array(100).fill("x".repeat(9999)).join(" ");
        const text = JSON.stringify({ type: "response.create", input });
        const size = 8000;
        for (let start = 0, index = 0; start < text.length; start += size, index += 1) {
          const last = start + size >= text.length;
          channel.send({ type: "tabagent.chunk", id: "c", index, last,
                         data: text.slice(start, start + size) });
        }
        const { event } = await channel.until("response.completed");
        return event.response.output[0].content[0].text === input;
    """
    assert await run(page, script) is True


async def test_hanging_up_closes_the_channels(page: Page) -> None:
    script = """
        const [channel] = await call(["tabagent"]);
        const { status } = await fetch(keep.location, { method: "DELETE" });
        return [status, (await channel.next()).type];
    """
    assert await run(page, script) == [200, "closed"]


@pytest.fixture
def server_for_one(tmp_path: Path) -> Iterator[str]:
    """The address of a server that takes one peer at a time."""
    with serving(tmp_path / "home", "--model=demo=echo:demo", "--max-peers=1") as address:
        yield address


async def test_a_browser_that_is_killed_frees_its_slot_within_15_seconds(
    server_for_one: str, tmp_path: Path
) -> None:
    script = f"""
        const [channel] = await call(["tabagent"]);
        channel.send({json.dumps(ENDLESS)});
        return (await channel.until("response.output_text.delta")).event.type;
    """
    async with open_page(server_for_one, tmp_path / "profile") as page:  # left by a kill
        await run(page, script)
    with anyio.fail_after(15):
        async with calling(int(server_for_one.rsplit(":", 1)[1].rstrip("/"))) as caller:
            caller.open()
            offer = (await caller.offer()).encode()
            while (await call_http(caller.port, "POST", body=offer, headers=SDP)).status == 429:
                pass
