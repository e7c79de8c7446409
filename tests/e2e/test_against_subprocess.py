"""The in-process engine against the approach it replaces: llama-server as a subprocess."""

from __future__ import annotations

import json
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import servers
from benchmarks.runtime import find_runtime
from tests.gguf_fixtures import write_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT = 1024
PROMPTS = ["Tokens flow like water", "a", "naïve 😀 text", "0 1 2 3 " * 40]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.gguf", seed=5)


@pytest.fixture(scope="module")
def both(model: Path) -> Iterator[tuple[servers.Server, servers.Server]]:
    """TabAgent and llama-server, with the same file, library and threads."""
    runtime = find_runtime()
    with ExitStack() as stack:
        ours = stack.enter_context(
            servers.tabagent(
                "--model",
                str(model),
                "--runtime",
                runtime.id,
                "--threads",
                "1",
                "--ctx-size",
                str(CONTEXT),
            )
        )
        theirs = stack.enter_context(servers.llama_server(runtime, model, 1, 1, CONTEXT))
        yield ours, theirs


def post(server: servers.Server, route: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{route}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


@pytest.mark.parametrize("prompt", PROMPTS)
def test_completions_at_temperature_0_are_equal(
    both: tuple[servers.Server, servers.Server], prompt: str
) -> None:
    body = {"prompt": prompt, "max_tokens": 64, "temperature": 0}
    ours, theirs = (post(server, "/v1/completions", body) for server in both)
    assert ours["choices"][0]["text"]
    assert ours["choices"][0]["text"] == theirs["choices"][0]["text"]
    assert ours["choices"][0]["finish_reason"] == theirs["choices"][0]["finish_reason"]
    assert ours["usage"]["completion_tokens"] == theirs["usage"]["completion_tokens"]
    assert ours["usage"]["prompt_tokens"] == theirs["usage"]["prompt_tokens"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_chats_at_temperature_0_are_equal(
    both: tuple[servers.Server, servers.Server], prompt: str
) -> None:
    messages = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": prompt},
    ]
    body = {"messages": messages, "max_tokens": 64, "temperature": 0}
    ours, theirs = (post(server, "/v1/chat/completions", body) for server in both)
    assert ours["choices"][0]["message"]["content"]
    assert ours["choices"][0]["message"]["content"] == theirs["choices"][0]["message"]["content"]
    assert ours["usage"]["prompt_tokens"] == theirs["usage"]["prompt_tokens"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_gguf_runs_without_any_subprocess(
    both: tuple[servers.Server, servers.Server],
) -> None:
    server, _ = both
    post(server, "/v1/completions", {"prompt": "Hello", "max_tokens": 8})
    process = Path("/proc", str(server.process.pid))
    assert "libllama" in (process / "maps").read_text()
    assert [task.read_text() for task in process.glob("task/*/children") if task.read_text()] == []
