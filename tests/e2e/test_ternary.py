"""Ternary files behind a real server: token-id prompts over HTTP, against known logits."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.e2e.conftest import serving
from tests.ternary_fixtures import REFERENCE, write_ternary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLEAR_LEAD = 0.3
"""A lead of the likeliest token, in logits, that rounding does not turn."""


def post(address: str, route: str, body: dict[str, Any]) -> dict[str, Any]:
    content = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}{route}", json.dumps(body).encode(), content)
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def next_token(address: str, model: str, prompt: list[int]) -> tuple[int, float]:
    """The likeliest token after a prompt, and its log-probability."""
    body = {
        "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": True,
        "logprobs": 1, "return_token_ids": True,
    }  # fmt: skip
    (choice,) = post(address, "/v1/completions", body)["choices"]
    assert choice["prompt_token_ids"] == prompt
    return choice["token_ids"][0], choice["logprobs"]["token_logprobs"][0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the same weights as I2_S and as F32."""
    folder = tmp_path_factory.mktemp("ternary")
    ternary = write_ternary(folder / "ternary.gguf")
    plain = write_ternary(folder / "plain.gguf", encoding="F32")
    with serving(folder / "home", f"--model={ternary}", f"--model={plain}") as address:
        yield address
    assert len(list((folder / "home" / "cache" / "transcoded").glob("*.gguf"))) == 1


def test_a_file_of_i2_s_is_served_like_any_other(server: str) -> None:
    prompt = [1, *range(40, 60)]
    ternary, plain = (next_token(server, model, prompt) for model in ("ternary", "plain"))
    assert ternary[0] == plain[0]
    assert abs(ternary[1] - plain[1]) < 0.3
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": "ternary", "messages": messages, "max_tokens": 4}
    (choice,) = post(server, "/v1/chat/completions", body)["choices"]
    assert choice["finish_reason"] in {"length", "stop"}


@pytest.fixture(scope="module")
def reference() -> Path:
    """Files of the original code and the logits that it computes for them."""
    if REFERENCE is None:
        pytest.skip("no reference data beside the repository")
    return REFERENCE


@pytest.mark.parametrize("name", ["llama", "bitnet-b1.58"])
def test_every_position_agrees_with_the_original_code(
    reference: Path, tmp_path: Path, name: str
) -> None:
    known = np.load(reference / f"{name}-logits.npz")
    logits = known["f32"].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    prompt: list[int] = known["prompt_tokens"].tolist()
    clear = 0
    with serving(tmp_path / "home", f"--model={name}={reference / name}-i2_s.gguf") as address:
        for position in range(len(prompt)):
            token, logprob = next_token(address, name, prompt[: position + 1])
            assert abs(logprob - logprobs[position, token]) < 0.5
            second, best = np.sort(logits[position])[-2:]
            if best - second > CLEAR_LEAD:
                assert token == logits[position].argmax(), position
                clear += 1
    assert clear >= 36
