"""`tabagent serve --gpu-layers`, with a Vulkan device and without one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.vulkan import RUNTIME, hide_vulkan_devices, show_vulkan_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done, Process
    from tests.gguf_fixtures import ChainModel

    Start = Callable[..., Process]


def provider(start: Start, model: ChainModel, layers: str) -> object:
    """Where a server says that it computes a model."""
    flags = ("--model", str(model.path), "--port", "0", "--threads", "1", "--runtime", RUNTIME)
    url = start("serve", *flags, "--gpu-layers", layers).url().replace("http", "ws")
    with connect(f"{url}/v1/extension", proxy=None) as connection:
        connection.send(json.dumps({"action": "load_model", "modelPath": model.path.stem}))
        while True:
            message: dict[str, Any] = json.loads(connection.recv())
            if message.get("action") == "load_model":
                return message["payload"]["executionProvider"]


@pytest.mark.parametrize("layers", ["1", "auto"])
def test_a_server_tells_that_it_computes_on_a_gpu(
    start: Start, chain_model: ChainModel, monkeypatch: pytest.MonkeyPatch, layers: str
) -> None:
    show_vulkan_device(monkeypatch)
    assert provider(start, chain_model, layers) == "gpu"


def test_a_server_that_finds_no_gpu_computes_on_the_cpu_and_says_so(
    start: Start, chain_model: ChainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_vulkan_devices(monkeypatch)
    assert provider(start, chain_model, "auto") == "cpu"


def test_named_layers_without_a_gpu_end_the_server_with_the_reason(
    start: Start, chain_model: ChainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_vulkan_devices(monkeypatch)
    flags = ("--model", str(chain_model.path), "--port", "0", "--runtime", RUNTIME)
    server = start("serve", *flags, "--gpu-layers", "1")
    assert server.end() == 1
    assert "device not found" in server.line("tabagent: ")


def test_doctor_shows_the_devices_of_each_runtime(
    spawn: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_vulkan_device(monkeypatch)
    found = json.loads(spawn("doctor", "--json", "--runtime", RUNTIME).out)["gpu_runtimes"]
    assert [each["id"] for each in found] == [RUNTIME]
    assert found[0]["devices"][0]["name"] == "Vulkan0"
    assert found[0]["devices"][0]["description"] in spawn("doctor").out
