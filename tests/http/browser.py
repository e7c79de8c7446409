"""A headless Chromium, driven over its DevTools connection."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from anyio.abc import Process
    from websockets.asyncio.client import ClientConnection

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-port=0",
]


class Page:
    """One open page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._calls = 0

    async def call(self, method: str, **params: Any) -> Any:
        """Call a DevTools method; events that come meanwhile are dropped."""
        self._calls += 1
        await self._connection.send(
            json.dumps({"id": self._calls, "method": method, "params": params})
        )
        while True:
            message = json.loads(await self._connection.recv())
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]

    async def load(self, url: str) -> None:
        """Go to `url` and wait for its load event."""
        await self.call("Page.enable")
        await self._connection.send(
            json.dumps({"id": 0, "method": "Page.navigate", "params": {"url": url}})
        )
        while json.loads(await self._connection.recv()).get("method") != "Page.loadEventFired":
            pass

    async def evaluate(self, script: str) -> Any:
        """Return the value of an expression, awaited when it is a promise."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true, looking once per change of the page."""
        await self.evaluate(
            f"""new Promise((resolve) => {{
                const look = () => ({condition}) ? (watch.disconnect(), resolve()) : null;
                const watch = new MutationObserver(look);
                watch.observe(document, {{subtree: true, childList: true, attributes: true,
                                          characterData: true}});
                look();
            }})"""
        )

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def screenshot(self) -> bytes:
        """Return the page as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def open_page(url: str, profile: Path, *flags: str) -> AsyncIterator[Page]:
    """Start a browser of its own and open `url`."""
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
    async with await anyio.open_process(command, stdout=subprocess.DEVNULL) as process:
        try:
            browser = await _devtools_address(process)
            async with connect(browser, max_size=None) as connection:
                target = await Page(connection).call("Target.createTarget", url="about:blank")
                address = browser.split("/devtools/")[0] + f"/devtools/page/{target['targetId']}"
                async with connect(address, max_size=None) as page_connection:
                    page = Page(page_connection)
                    await page.load(url)
                    yield page
        finally:
            process.kill()


async def _devtools_address(process: Process) -> str:
    assert process.stderr is not None
    said = b""
    async for chunk in process.stderr:
        said += chunk
        match = re.search(rb"DevTools listening on (ws://\S+)", said)
        if match:
            return match[1].decode()
    raise AssertionError(f"the browser did not start: {said.decode(errors='replace')}")
