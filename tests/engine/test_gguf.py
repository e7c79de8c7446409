"""Files that must be refused, and what the header of a good one says."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tabagent_engine import EngineError, GgufEngine, GGUFHandler, inspect_gguf

from tests.gguf_fixtures import (
    BROKEN_FILES,
    CHAT_TEMPLATE,
    BrokenFile,
    write_chain,
    write_f64_tensor,
)

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


@pytest.fixture
def split_model(tmp_path: Path) -> ChainModel:
    return write_chain(tmp_path / "split.gguf", tensors_per_file=8)


def test_a_split_model_is_summed_up_and_answers_through_its_first_file(
    split_model: ChainModel,
) -> None:
    files = sorted(split_model.path.parent.glob("*.gguf"))
    summary = inspect_gguf(split_model.path)
    assert summary["parts"] == len(files) == 3
    assert summary["file_bytes"] == sum(file.stat().st_size for file in files)
    assert summary["tensor_count"] == 21
    with GGUFHandler(None, split_model.path) as model:
        assert model.generate("Say it: ", temperature=0) == split_model.answer


def test_a_later_file_of_a_split_model_names_the_first(split_model: ChainModel) -> None:
    second = split_model.path.with_name("split-00002-of-00003.gguf")
    with pytest.raises(EngineError, match=split_model.path.name) as refusal:
        inspect_gguf(second)
    assert refusal.value.code == "gguf_unsupported"


def test_a_split_model_that_lacks_a_file_is_refused(split_model: ChainModel) -> None:
    last = split_model.path.with_name("split-00003-of-00003.gguf")
    last.unlink()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(EngineError, match=last.name) as refusal:
        GgufEngine.open(split_model.path, wake_fd=theirs.fileno())
    assert refusal.value.code == "gguf_invalid"
