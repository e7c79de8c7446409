"""A page that knows nothing but OpenAI's documented steps for Realtime over WebRTC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.http.browser import CHROMIUM, open_page

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

# Nothing but the steps that OpenAI documents for its Realtime API.
DOCUMENTED = """
    const made = await fetch("/v1/realtime/client_secrets", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ session: { type: "realtime", output_modalities: ["text"] } }),
    });
    const { value } = await made.json();
    const pc = new RTCPeerConnection();
    pc.addTransceiver("audio");
    const dc = pc.createDataChannel("oai-events");
    const texts = [];
    const done = new Promise((resolve) => {
      dc.addEventListener("message", ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "response.output_text.delta") texts.push(event.delta);
        if (event.type === "response.done") resolve(event.response.status);
      });
    });
    await pc.setLocalDescription(await pc.createOffer());
    const response = await fetch("/v1/realtime/calls", {
      method: "POST",
      body: pc.localDescription.sdp,
      headers: { Authorization: `Bearer ${value}`, "Content-Type": "application/sdp" },
    });
    await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
    await new Promise((resolve) => dc.addEventListener("open", resolve));
    const content = [{ type: "input_text", text: "Hello there" }];
    const item = { type: "message", role: "user", content };
    dc.send(JSON.stringify({ type: "conversation.item.create", item }));
    dc.send(JSON.stringify({ type: "response.create" }));
    return [await done, texts.join("")];
"""


async def test_a_page_that_follows_the_documented_steps_is_answered(
    echo_server: str, tmp_path: Path
) -> None:
    async with open_page(echo_server, tmp_path) as page:
        with anyio.fail_after(40):
            answer = await page.evaluate(f"(async () => {{ {DOCUMENTED} }})()")
    assert answer == ["completed", "Hello there"]
