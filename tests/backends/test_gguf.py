"""The GGUF backend on real libllama: known answers, and a code for every refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread
from tabagent.core.backend import BackendConfig, ModelSpec
from tabagent.core.engine import Engine
from tabagent.core.errors import TabagentError
from tabagent.core.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    ModelState,
    PromptProgress,
    Started,
    TextDelta,
)
from tabagent.core.requests import GenerateRequest, Message, SamplingParams
from tabagent_backends.gguf import GgufBackend

from tests.gguf_fixtures import BROKEN_FILES, BrokenFile, ChainModel
from tests.ternary_fixtures import write_ternary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

CONFIG = BackendConfig(threads=1)
"""Waiting for another thread would cost more than a model of this size computes."""


@pytest.fixture
async def engine(chain_model: ChainModel) -> AsyncIterator[Engine]:
    models = [ModelSpec("chain", str(chain_model.path), "gguf")]
    async with Engine({"gguf": GgufBackend(CONFIG)}, models) as engine:
        await engine.load("chain")
        yield engine


async def ask(engine: Engine, **fields: Any) -> list[Event]:
    if "messages" not in fields:
        fields.setdefault("prompt", "Hello")
    async with engine.generate(GenerateRequest(request_id="r", **fields)) as stream:
        with anyio.fail_after(30):
            return [event async for events in stream for event in events]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_model_gives_its_known_answer(engine: Engine, chain_model: ChainModel) -> None:
    for prompt in ("Hello", "a quite different prompt"):
        events = await ask(engine, prompt=prompt, sampling=SamplingParams(temperature=0.0))
        assert text(events) == chain_model.answer
        assert isinstance(events[-1], Finished)
        assert events[-1].reason is FinishReason.STOP


async def test_messages_go_through_the_models_template(
    engine: Engine, chain_model: ChainModel
) -> None:
    messages = (Message("system", "Be brief."), Message("user", "Hello 😀"))
    assert text(await ask(engine, messages=messages)) == chain_model.answer


async def test_the_answers_tokens_and_their_bytes_are_reported(
    engine: Engine, chain_model: ChainModel
) -> None:
    deltas = [e for e in await ask(engine, logprobs=2) if isinstance(e, TextDelta)]
    entries = [entry for delta in deltas for entry in delta.logprobs]
    tokens = [token for delta in deltas for token in delta.tokens]
    assert chain_model.tokens[: len(tokens)] == tokens
    assert b"".join(e.chosen.bytes for e in entries).decode().strip() == chain_model.answer.strip()
    assert all(entry.top[0].token == entry.chosen.token for entry in entries)


async def test_the_start_tells_the_prompts_length_and_the_seed(engine: Engine) -> None:
    events = await ask(engine, max_tokens=1)
    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.model == "chain"
    assert started.prompt_tokens > 1
    assert started.seed is not None
    assert all(e.total == started.prompt_tokens for e in events if isinstance(e, PromptProgress))


async def test_a_token_that_does_not_exist_is_an_invalid_parameter(engine: Engine) -> None:
    events = await ask(engine, prompt=(1, 10**9))
    assert isinstance(events[-1], Failed)
    assert (events[-1].error.code, events[-1].error.param) == ("invalid_parameter", "prompt")
    assert text(await ask(engine))


async def test_a_dropped_request_frees_its_place(engine: Engine, chain_model: ChainModel) -> None:
    for number in range(20):
        request = GenerateRequest(request_id=f"dropped-{number}", prompt="Hello")
        async with engine.generate(request) as stream:
            await anext(stream)
    assert text(await ask(engine)) == chain_model.answer


@pytest.mark.parametrize("broken", BROKEN_FILES, ids=lambda broken: broken.name)
async def test_a_broken_file_is_refused_with_its_code(broken: BrokenFile, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    await to_thread.run_sync(broken.write, path)
    backend = GgufBackend(CONFIG)
    with pytest.raises(TabagentError) as refusal:
        await backend.load(ModelSpec("broken", str(path), "gguf"), lambda progress: None)
    assert refusal.value.code == broken.code
    await backend.aclose()


async def test_other_models_outlive_a_broken_one(
    engine: Engine, chain_model: ChainModel, tmp_path: Path
) -> None:
    path = tmp_path / "broken.gguf"
    await to_thread.run_sync(path.write_bytes, b"GGUF")
    engine.register(ModelSpec("broken", str(path), "gguf"))
    with pytest.raises(TabagentError):
        await engine.load("broken")
    assert [model.state for model in engine.models()] == [ModelState.READY, ModelState.FAILED]
    assert text(await ask(engine)) == chain_model.answer


async def test_transcoding_a_ternary_file_is_told_as_progress(tmp_path: Path) -> None:
    path = await to_thread.run_sync(write_ternary, tmp_path / "ternary.gguf")
    spec = ModelSpec("ternary", str(path), "gguf")
    backend = GgufBackend(CONFIG)
    shares: list[float] = []
    await backend.load(spec, shares.append)
    await backend.aclose()
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


async def test_leaving_ends_the_transcoding_of_a_ternary_file(tmp_path: Path) -> None:
    path = await to_thread.run_sync(write_ternary, tmp_path / "ternary.gguf")
    backend = GgufBackend(CONFIG)
    told: list[float] = []
    with anyio.CancelScope() as scope:

        def give_up(share: float) -> None:
            told.append(share)
            scope.cancel()

        await backend.load(ModelSpec("ternary", str(path), "gguf"), give_up)
    assert scope.cancelled_caught
    assert len(told) == 1
    await backend.aclose()


async def test_without_a_runtime_loading_says_so(chain_model: ChainModel, tmp_path: Path) -> None:
    backend = GgufBackend(BackendConfig(runtime=str(tmp_path)))
    with pytest.raises(TabagentError) as refusal:
        await backend.load(ModelSpec("m", str(chain_model.path), "gguf"), lambda progress: None)
    assert refusal.value.code == "library_not_found"
    await backend.aclose()


def test_health_names_the_runtime_and_why() -> None:
    health = GgufBackend.health(BackendConfig())
    assert health.works
    assert health.version
    assert health.reason


def test_health_without_a_runtime_says_why(tmp_path: Path) -> None:
    health = GgufBackend.health(BackendConfig(runtime=str(tmp_path)))
    assert (health.installed, health.works) == (True, False)
    assert health.reason


@pytest.mark.parametrize("source", ["m.gguf", "/models/M.GGUF"])
def test_it_claims_gguf_files(source: str) -> None:
    assert GgufBackend.claims(source)
