"""Files that must be refused, and what the header of a good one says."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tabagent_engine import EngineError, GgufEngine, inspect_gguf

from tests.gguf_fixtures import BROKEN_FILES, CHAT_TEMPLATE, BrokenFile, write_f64_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gguf_fixtures import ChainModel


@pytest.mark.parametrize("broken", BROKEN_FILES, ids=lambda broken: broken.name)
def test_a_broken_file_is_refused_by_its_code(broken: BrokenFile, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    broken.write(path)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(EngineError) as refusal:
        GgufEngine.open(path, wake_fd=theirs.fileno())
    assert refusal.value.code == broken.code


def test_a_folder_is_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as refusal:
        inspect_gguf(tmp_path)
    assert refusal.value.code == "model_not_found"


def test_the_header_tells_sizes_and_metadata(chain_model: ChainModel) -> None:
    summary = inspect_gguf(chain_model.path)
    assert summary["architecture"] == "llama"
    assert summary["name"] == "chain"
    assert summary["file_bytes"] == chain_model.path.stat().st_size
    assert summary["context_length"] == summary["metadata"]["llama.context_length"] == 2048
    assert summary["block_count"] == 2
    assert summary["metadata"]["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert summary["tensor_types"][0]["name"] == "F32"
    assert summary["problem"] is None


def test_a_file_that_cannot_run_is_still_described(tmp_path: Path) -> None:
    summary = inspect_gguf(write_f64_tensor(tmp_path / "f64.gguf"))
    assert "F64" in (summary["problem"] or "")
