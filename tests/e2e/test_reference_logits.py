"""Per-position logits over HTTP, against those of the original BitNet code."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import serving
from tests.reference_logits import ReferenceLogits
from tests.ternary_fixtures import REFERENCE

if TYPE_CHECKING:
    from pathlib import Path


def complete(address: str, **body: Any) -> dict[str, Any]:
    content = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{address}/v1/completions", json.dumps(body).encode(), content
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        [choice] = json.load(reply)["choices"]
    assert isinstance(choice, dict)
    return choice


@pytest.mark.parametrize("name", ["llama", "bitnet-b1.58"])
def test_every_position_has_the_logits_of_the_original(tmp_path: Path, name: str) -> None:
    if REFERENCE is None:
        pytest.skip("no reference data beside the repository")
    reference = ReferenceLogits(REFERENCE, name)
    with serving(tmp_path, f"--model={reference.model}") as address:
        for length in range(1, len(reference.prompt) + 1):
            choice = complete(
                address,
                prompt=reference.prompt[:length],
                max_tokens=1,
                temperature=0,
                ignore_eos=True,
                logprobs=reference.vocab_size,
                return_tokens_as_token_ids=True,
                return_token_ids=True,
            )
            assert choice["prompt_token_ids"] == reference.prompt[:length]
            [top] = choice["logprobs"]["top_logprobs"]
            told = {int(token.removeprefix("token_id:")): value for token, value in top.items()}
            assert max(told, key=lambda token: told[token]) == choice["token_ids"][0]
            reference.compare(length, told)


def test_a_text_prompts_tokens_are_returned(server: str) -> None:
    asked = {"model": "chain", "max_tokens": 1, "temperature": 0, "return_token_ids": True}
    by_text = complete(server, prompt="What flows?", **asked)
    ids = by_text["prompt_token_ids"]
    assert len(ids) > 1
    by_ids = complete(server, prompt=ids, **asked)
    assert by_ids["prompt_token_ids"] == ids
    assert by_ids["text"] == by_text["text"]
