"""Hostile model files in the real engine: nothing in them may end or hang the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz.campaign import Campaign, Child
from tests.fuzz.gguf_file import decode
from tests.fuzz.originals import ORIGINALS, file_names, written

if TYPE_CHECKING:
    from pathlib import Path

CODES = {"gguf_invalid", "gguf_unsupported", "model_load_failed", "out_of_memory", "ran"}


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_originals_run(name: str, tmp_path: Path) -> None:
    files = ORIGINALS[name](tmp_path)
    files = files if isinstance(files, list) else [files]
    contents = [file.encode()[0] for file in files]
    first = written(dict(zip(file_names(name, len(files)), contents, strict=True)), tmp_path)
    with Child(tmp_path) as child:
        assert child.trial(first) == "ran", child.last_words()


def test_a_file_is_written_back_as_it_was_read(tmp_path: Path) -> None:
    file = ORIGINALS["spm"](tmp_path)
    assert not isinstance(file, list)
    data, _ = file.encode()
    assert decode(data).encode()[0] == data


def test_a_seed_gives_the_same_mutants_each_time() -> None:
    first, second = Campaign(7), Campaign(7)
    assert [first.mutant(number) for number in range(20)] == [
        second.mutant(number) for number in range(20)
    ]


def test_a_child_that_dies_is_a_find(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.kill()
        assert child.trial(tmp_path / "x.gguf") is None
        assert child.cause_of_death() == "SIGKILL"


@pytest.mark.timeout(600)
def test_mutants_are_refused_by_code_or_run() -> None:
    result = Campaign(20261123).run(500, children=2)
    assert result.crashes == []
    assert set(result.codes) <= CODES
    assert sum(result.codes.values()) == 500
    # Neither all refused nor all accepted: the mutants reach into the library.
    assert result.codes["ran"] > 50
    assert result.codes["gguf_invalid"] > 50
