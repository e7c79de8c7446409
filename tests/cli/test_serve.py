"""`tabagent serve` as people start it: in a process of its own."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Process
    from tests.gguf_fixtures import ChainModel

    Start = Callable[..., Process]

ENDLESS = {"input": "word " * 40, "ignore_eos": True, "stream": True}


def get(url: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body


@contextmanager
def post(url: str, path: str, body: Any) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    with closing(connection), connection.getresponse() as response:
        yield response


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_gets_ready_without_a_model_and_ends_at_a_signal(start: Start, number: int) -> None:
    server = start("serve", "--no-model", "--port", "0")
    url = server.url()
    assert get(url, "/health") == (200, {"status": "ok"})
    assert get(url, "/v1/models")[1]["data"] == []
    assert server.end(number) == 0
    assert server.process.stdout is not None
    assert server.process.stdout.read() == b""


def test_it_serves_a_real_model(start: Start, chain_model: ChainModel) -> None:
    server = start("serve", "--model", f"known={chain_model.path}", "--port", "0")
    url = server.url()
    assert get(url, "/health") == (200, {"status": "ok"})
    body = {"model": "known", "prompt": "anything", "temperature": 0}
    with post(url, "/v1/completions", body) as response:
        answer = json.loads(response.read())
    assert answer["choices"][0]["text"] == KNOWN_ANSWER


def test_ending_ends_live_streams_first(start: Start) -> None:
    server = start("serve", "--model", "demo=echo:demo", "--port", "0")
    url = server.url()
    with (
        post(url, "/v1/responses", ENDLESS) as response,
        connect(url.replace("http", "ws") + "/v1/responses") as websocket,
    ):
        while b"output_text.delta" not in response.readline():
            pass
        websocket.send(json.dumps(ENDLESS | {"type": "response.create"}))
        while json.loads(websocket.recv())["type"] != "response.output_text.delta":
            pass
        assert server.end(signal.SIGTERM) == 0
        assert b"response.incomplete" in response.read()
        *_, last = websocket  # until the server closes
    assert json.loads(last)["type"] == "response.incomplete"


def test_ending_does_not_wait_for_a_peer_that_takes_nothing(start: Start) -> None:
    server = start("serve", "--model", "demo=echo:demo", "--port", "0")
    host, port = server.url().removeprefix("http://").split(":")
    flood = json.dumps(ENDLESS | {"input": ("x" * 2000 + " ") * 40}).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as stalled:
        stalled.sendall(f"{head}Content-Length: {len(flood)}\r\n\r\n".encode() + flood)
        assert stalled.recv(12) == b"HTTP/1.1 200"
        assert server.end(signal.SIGTERM) == 0


def test_a_port_in_use_is_an_error_with_a_way_out(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start("serve", "--no-model", "--port", str(port))
        assert server.end() == 1
    assert server.lines == [
        f"tabagent: cannot listen at 127.0.0.1:{port}: the port is in use; --port chooses another"
    ]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "model_not_found"),
        (b"", "gguf_invalid"),
        (b"GGUF", "gguf_invalid"),
        (b"not a model at all", "gguf_invalid"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_it(
    start: Start, tmp_path: Path, content: bytes | None, code: str
) -> None:
    file = tmp_path / "broken.gguf"
    if content is not None:
        file.write_bytes(content)
    server = start("serve", "--model", str(file), "--port", "0")
    assert server.end() == 1
    assert server.line("tabagent: ").startswith(f"tabagent: {code}: ")
    assert not [line for line in server.lines if "ready" in line]


@pytest.mark.parametrize(
    ("flags", "code", "key"),
    [
        (["--port", "70000"], "invalid_parameter", "--port"),
        (["--host", "0.0.0.0"], "invalid_parameter", "--require-token"),
        (["--allow-origin", "*"], "invalid_parameter", "--allow-origin"),
        (["--model", "a/m.gguf", "--model", "b/m.gguf"], "invalid_parameter", "'m'"),
        (["--no-model", "--model", "m.gguf"], "invalid_parameter", "--no-model"),
        (["--cache-disk", "1GB"], "not_supported", "--cache-disk"),
    ],
)
def test_wrong_settings_are_usage_errors(
    start: Start, flags: list[str], code: str, key: str
) -> None:
    server = start("serve", *flags)
    assert server.end() == 2
    (line,) = server.lines
    assert line.startswith(f"tabagent: {code}: ")
    assert key in line


def test_the_settings_file_is_read(start: Start, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("no_model = true\nlog_format = 'json'\nidle_exit = 0.2\n")
    server = start("serve", "--port", "0")
    assert get(server.url(), "/health")[0] == 200
    assert server.end() == 0
    assert all(json.loads(line)["message"] for line in server.lines)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_require_token_makes_a_token_that_opens_the_door(start: Start, home: Path) -> None:
    server = start("serve", "--no-model", "--port", "0", "--require-token")
    url = server.url()
    assert get(url, "/v1/models")[0] == 401
    token = (home / "token").read_text().strip()
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=30)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {token}"})
    assert connection.getresponse().status == 200
    connection.close()
    server.end(signal.SIGTERM)
    assert token not in "".join(server.lines)


def test_prompts_and_answers_are_not_logged(start: Start) -> None:
    server = start("serve", "--model", "demo=echo:demo", "--port", "0", "--log-level", "debug")
    url = server.url()
    with post(url, "/v1/responses", {"input": "my secret over http"}) as response:
        assert b"secret" in response.read()
    with connect(url.replace("http", "ws") + "/v1/responses") as websocket:
        websocket.send(json.dumps({"type": "response.create", "input": "my secret over ws"}))
        while json.loads(websocket.recv())["type"] != "response.completed":
            pass
    assert server.end(signal.SIGTERM) == 0
    assert "secret" not in "".join(server.lines)


def test_serving_imports_nothing_that_only_other_commands_need() -> None:
    code = "import sys, tabagent.cli.serve, tabagent.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert "starlette" in packages
    assert not packages & {"rich", "numpy", "pydantic", "tabagent_engine", "tabagent_backends"}


def test_the_largest_message_is_a_setting(start: Start) -> None:
    url = start(
        "serve", "--model", "demo=echo:demo", "--port", "0", "--max-message-size", "3000000"
    ).url()
    for size, status in ((2_000_000, 200), (3_000_000, 413)):
        with post(url, "/v1/responses", {"input": "x" * size}) as response:
            assert response.status == status
    address = url.replace("http", "ws", 1) + "/v1/responses"
    with connect(address, max_size=None) as connection:
        connection.send(json.dumps({"type": "response.create", "input": "x" * 2_000_000}))
        assert json.loads(connection.recv(30))["type"] == "response.created"
