"""Layers on a GPU, by the Vulkan module of the bundled runtime and whatever device Vulkan has."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tabagent_engine import EngineError, list_runtimes
from tabagent_engine.gpus import gpu_devices

from tests.vulkan import RUNTIME, hide_vulkan_devices, show_vulkan_device

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gguf_fixtures import ChainModel

TOKENS = 5

ANSWER = """
import json, socket, sys
from tabagent_engine import EngineError, GgufEngine

model, runtime, layers = json.loads(sys.argv[1])
ours, theirs = socket.socketpair()
try:
    engine = GgufEngine.open(model, wake_fd=theirs.fileno(), runtime=runtime, gpu_layers=layers,
                             threads=1, ctx_size=256, parallel=1)
except EngineError as error:
    print(json.dumps({"code": error.code, "param": error.param, "message": str(error)}))
    sys.exit()
engine.submit(1, "Count!", credit=99, max_tokens=5)
tokens, ended = [], False
while not ended:
    ours.recv(1)
    for event in engine.drain():
        if event[0] == "delta":
            tokens += event[3]
        ended = ended or event[0] in ("finished", "failed")
print(json.dumps({"layers": engine.info["gpu_layers"], "tokens": tokens}))
engine.close()
"""


def answer(model: ChainModel, layers: int | str, runtime: str = RUNTIME) -> tuple[Any, str]:
    """What a process answers that puts so many layers on a GPU, and what it says on stderr."""
    given = json.dumps([str(model.path), runtime, layers])
    command = [sys.executable, "-c", ANSWER, given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    show_vulkan_device(monkeypatch)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_vulkan_devices(monkeypatch)


@pytest.mark.usefixtures("gpu")
def test_a_device_is_listed_with_its_model_and_memory() -> None:
    device = gpu_devices(RUNTIME)[0]
    assert device["name"] == "Vulkan0"
    assert device["description"]
    assert 0 < device["free"] <= device["memory"]


@pytest.mark.usefixtures("gpu")
def test_layers_on_a_gpu_are_computed_there_and_say_the_same(
    chain_model: ChainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGML_VK_PERF_LOGGER", "1")
    found, said = answer(chain_model, 99)
    assert found == {"layers": 3, "tokens": chain_model.tokens[:TOKENS]}
    assert "MUL_MAT" in said


@pytest.mark.usefixtures("gpu")
def test_auto_takes_all_layers_that_fit(chain_model: ChainModel) -> None:
    assert answer(chain_model, "auto")[0] == {"layers": 3, "tokens": chain_model.tokens[:TOKENS]}


@pytest.mark.usefixtures("gpu")
def test_without_layers_the_gpu_is_left_alone(
    chain_model: ChainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGML_VK_PERF_LOGGER", "1")
    assert answer(chain_model, 0) == ({"layers": 0, "tokens": chain_model.tokens[:TOKENS]}, "")


@pytest.mark.usefixtures("no_gpu")
def test_layers_for_a_gpu_that_is_not_there_are_refused(chain_model: ChainModel) -> None:
    found, _ = answer(chain_model, 1)
    assert found["code"] in {"library_not_found", "invalid_parameter"}
    assert "device not found" in found["message"]


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_takes_none(chain_model: ChainModel) -> None:
    assert answer(chain_model, "auto")[0] == {"layers": 0, "tokens": chain_model.tokens[:TOKENS]}


def test_a_runtime_without_a_gpu_module_names_the_one_that_has(
    npm_home: Path, chain_model: ChainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    plain = next(each["id"] for each in list_runtimes() if each["id"].startswith("npm-"))
    found, _ = answer(chain_model, 1, plain)
    assert found["code"] == "library_not_found"
    assert "tabagent runtime install --gpu vulkan" in found["message"]


def test_a_runtime_that_does_not_exist_has_no_devices() -> None:
    with pytest.raises(EngineError, match="neither a folder nor the id") as refusal:
        gpu_devices("llama-from-nowhere")
    assert refusal.value.code == "library_not_found"
