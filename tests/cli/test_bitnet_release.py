"""`doctor` and `serve` with a `BitnetRelease` tree."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import pytest

from tests.bitnet_release import TREE, VARIANTS, needs_tree
from tests.cli.test_serve import post

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done, Process

pytestmark = [
    needs_tree,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the tree is for x86"),
]


@pytest.fixture(autouse=True)
def tree(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABAGENT_BITNET_RELEASE", str(TREE))


def test_doctor_lists_every_variant_with_a_verdict(spawn: Callable[..., Done]) -> None:
    found = json.loads(spawn("doctor", "--json").out)
    listed = [each for each in found["candidates"] if each["id"] == "bitnet-release"]
    assert sorted(each["variant"] for each in listed) == VARIANTS
    assert all(each["reason"] and each["allowed"] == (each["score"] > 0) for each in listed)
    assert found["runtime"]["id"] != "bitnet-release"
    shown = spawn("doctor").out
    assert all(variant in shown for variant in VARIANTS)


def test_a_named_variant_serves_a_stream(start: Callable[..., Process], q4_0_guide: Path) -> None:
    model = f"guide={q4_0_guide}"
    server = start("serve", "--runtime", "bitnet-portable", "--model", model, "--port", "0")
    question = {"role": "user", "content": "What is TabAgent?"}
    body = {"model": "guide", "messages": [question], "temperature": 0, "stream": True}
    with post(server.url(), "/v1/chat/completions", body) as response:
        assert response.getheader("content-type", "").startswith("text/event-stream")
        lines = [line.removeprefix(b"data: ") for line in response if line.startswith(b"data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "local inference server" in "".join(delta.get("content") or "" for delta in deltas)
