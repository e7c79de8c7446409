"""The same tokens from aiortc alone, nothing of TabAgent: `python -m benchmarks.bare`.

Reads offers from its input and writes answers, both as JSON, one a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from anyio import to_thread

from .peers import DELTA
from .steps import BATCHES, PER_SECOND

if TYPE_CHECKING:
    from aiortc import RTCDataChannel

PADDING = "x" * 120
"""About as long as what TabAgent's events have besides the text."""


async def send(batches: list[list[RTCDataChannel]]) -> None:
    due = time.monotonic()
    while True:
        for batch in batches:
            due += 1 / PER_SECOND / BATCHES
            await asyncio.sleep(due - time.monotonic())
            text = f'{DELTA},"delta":" {due:.6f}","x":"{PADDING}"}}'
            for channel in batch:
                if channel.readyState == "open":
                    channel.send(text)


async def main() -> None:
    batches: list[list[RTCDataChannel]] = [[] for _ in range(BATCHES)]
    sending = asyncio.create_task(send(batches))
    connections = []
    while line := await to_thread.run_sync(sys.stdin.readline):
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connections.append(pc)

        @pc.on("datachannel")
        def take(channel: RTCDataChannel) -> None:
            # From its first message on, as TabAgent does from a request on.
            channel.once("message", lambda _: min(batches, key=len).append(channel))

        await pc.setRemoteDescription(RTCSessionDescription(json.loads(line), "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        print(json.dumps(pc.localDescription.sdp), flush=True)
    sending.cancel()


if __name__ == "__main__":
    uvloop.run(main())
