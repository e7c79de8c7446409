"""Pages of other origins in a real browser: what they can get from a running server."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread
from tabagent.config import Config, Paths

from tests.http.browser import CHROMIUM, open_page
from tests.test_doors import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

# The name of an attacker, who can let it resolve to this machine.
RESOLVE = "--host-resolver-rules=MAP evil.test 127.0.0.1"
QUESTION = {"input": "hello", "stream": False}

# Each gives true when the page has learnt something, or has been let in.
ATTEMPTS = {
    "reads the models": "fetch(`${server}/v1/models`).then((answer) => answer.ok)",
    "asks a question": """fetch(`${server}/v1/responses`, {
        method: 'POST', headers: {'Content-Type': 'application/json'}, body: question,
    }).then((answer) => answer.ok)""",
    "asks without a preflight": """fetch(`${server}/v1/responses`, {
        method: 'POST', mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, body: question,
    }).then((answer) => answer.ok)""",
    "opens a WebSocket": """new Promise((resolve) => {
        const socket = new WebSocket(`${server.replace('http', 'ws')}/v1/responses`);
        socket.onopen = () => resolve(true);
        socket.onerror = () => resolve(false);
    })""",
    "opens a WebSocket for extensions": """new Promise((resolve) => {
        const socket = new WebSocket(`${server.replace('http', 'ws')}/v1/extension`);
        socket.onopen = () => resolve(true);
        socket.onerror = () => resolve(false);
    })""",
    "includes it as a script": """new Promise((resolve) => {
        const script = document.createElement('script');
        script.onload = () => resolve(true);
        script.onerror = () => resolve(false);
        script.src = `${server}/v1/models`;
        document.head.append(script);
    })""",
    "approves itself": """fetch(`${server}/v1/origins/approve`, {
        method: 'POST', headers: {'Content-Type': 'application/json'},
        body: JSON.stringify({origin: location.origin}),
    }).then((answer) => answer.ok)""",
}


class ForeignPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def foreign_page() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ForeignPage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://evil.test:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    paths = Paths.locate({"TABAGENT_HOME": str(tmp_path_factory.mktemp("home"))})
    with running(Config(model=("demo=echo:demo",), port=0), paths) as port:
        yield port


def tokens_written(port: int) -> int:
    """How much the server has answered so far."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    [count] = [line for line in lines if line.startswith("tabagent_completion_tokens_total ")]
    return int(count.split()[-1])


def script(server: str, attempt: str) -> str:
    return f"""(async () => {{
        const server = {json.dumps(server)};
        const question = {json.dumps(json.dumps(QUESTION))};
        return {attempt};
    }})().catch(() => false)"""


async def test_the_servers_own_page_can_do_all_that_a_page_may(port: int, tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{port}"
    before = await to_thread.run_sync(tokens_written, port)
    async with open_page(f"{server}/", tmp_path, RESOLVE) as page:
        for name in ("reads the models", "asks a question", "opens a WebSocket"):
            assert await page.evaluate(script(server, ATTEMPTS[name])), name
    assert await to_thread.run_sync(tokens_written, port) > before


async def test_a_foreign_page_gets_nothing(port: int, foreign_page: str, tmp_path: Path) -> None:
    before = await to_thread.run_sync(tokens_written, port)
    async with open_page(foreign_page, tmp_path, RESOLVE) as page:
        assert await page.evaluate("location.host") in foreign_page
        for server in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
            for name, attempt in ATTEMPTS.items():
                assert not await page.evaluate(script(server, attempt)), name
    assert await to_thread.run_sync(tokens_written, port) == before


async def test_a_rebound_name_gets_nothing(port: int, tmp_path: Path) -> None:
    """To the browser it is the page's own origin, so that nothing but the name gives it away."""
    server = f"http://evil.test:{port}"
    before = await to_thread.run_sync(tokens_written, port)
    async with open_page(f"{server}/", tmp_path, RESOLVE) as page:
        assert await page.evaluate("location.origin") == server
        assert "host_not_allowed" in await page.evaluate("document.body.innerText")
        for name, attempt in ATTEMPTS.items():
            assert not await page.evaluate(script(server, attempt)), name
    assert await to_thread.run_sync(tokens_written, port) == before
