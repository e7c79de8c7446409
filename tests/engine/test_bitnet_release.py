"""Libraries of August 2024: the variants of a `BitnetRelease` tree, a process for each."""

from __future__ import annotations

import ctypes
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from tabagent_engine import EngineError, list_runtimes

from tests.bitnet_release import TREE, VARIANTS, answers, needs_tree, run_python
from tests.fuzz.originals import ORIGINALS
from tests.gguf_fixtures import write_tiny, write_with_tensor

if TYPE_CHECKING:
    from pathlib import Path

MAPPED = """
with open("/proc/self/maps") as maps:
    print(json.dumps([line.split()[-1] for line in maps if os.getcwd() in line]))
"""

OPEN_HERE = (
    """
import json, os, sys
from tabagent_engine import GGUFHandler
GGUFHandler(sys.argv[1], sys.argv[2], threads=1).unload()
"""
    + MAPPED
)

LINK_HERE = (
    """
import ctypes, json, os, sys
try:
    ctypes.CDLL(sys.argv[1])
except OSError:
    pass
"""
    + MAPPED
)

OPEN_AFTER = """
import ctypes, sys
from tabagent_engine import EngineError, GGUFHandler
other = ctypes.CDLL(sys.argv[1], int(sys.argv[4]))
try:
    GGUFHandler(sys.argv[2], sys.argv[3])
except EngineError as refusal:
    print(refusal.code)
"""


@pytest.fixture(autouse=True)
def tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABAGENT_BITNET_RELEASE", str(TREE))


def library(variant: str, name: str = "libllama.so") -> Path:
    return TREE / "cpu" / "linux" / variant / name


@pytest.fixture(scope="module")
def expected(q4_0_guide: Path) -> Any:
    """What the bundled runtime, a library of today, makes of the same file."""
    return answers("mineru", q4_0_guide)


def test_a_variant_without_its_ggml_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "cpu" / "linux" / "standard"
    place.mkdir(parents=True)
    (place / "libllama.so").touch()
    (candidate,) = list_runtimes(str(tmp_path))
    assert (candidate["id"], candidate["variant"]) == ("bitnet-release", "standard")
    assert (candidate["allowed"], candidate["reason"]) == (False, "libggml.so is missing")


@needs_tree
def test_every_variant_is_listed_behind_the_libraries_of_today() -> None:
    candidates = [candidate for candidate in list_runtimes() if candidate["allowed"]]
    of_tree = [candidate["id"] == "bitnet-release" for candidate in candidates]
    assert of_tree == sorted(of_tree)
    assert candidates[0]["id"] != "bitnet-release"
    listed = [one["variant"] for one in list_runtimes() if one["id"] == "bitnet-release"]
    assert sorted(listed) == VARIANTS


@needs_tree
def test_the_tree_its_id_and_a_variant_can_be_named() -> None:
    for name in (str(TREE), "bitnet-release"):
        assert sorted(candidate["variant"] for candidate in list_runtimes(name)) == VARIANTS
    for name in ("bitnet-portable", str(library("bitnet-portable").parent)):
        (candidate,) = list_runtimes(name)
        assert candidate["path"] == str(library("bitnet-portable"))


@needs_tree
def test_what_a_variant_knows_is_read_in_its_files() -> None:
    (candidate,) = list_runtimes("bitnet-portable")
    assert "knows no I2_S" in candidate["reason"]


@needs_tree
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_answers_as_a_library_of_today_or_is_refused(
    variant: str, q4_0_guide: Path, expected: Any
) -> None:
    (candidate,) = list_runtimes(variant)
    answer = answers(variant, q4_0_guide)
    if candidate["allowed"]:
        assert answer == expected
    else:
        assert answer[0] == "library_not_found"
        assert candidate["reason"] in answer[1]


@needs_tree
def test_nothing_planted_in_the_current_directory_is_loaded(
    tmp_path: Path, q4_0_guide: Path
) -> None:
    shutil.copy(library("standard", "libggml.so"), tmp_path)
    for name in ("libstdc++.so.6", "libm.so.6", "libgcc_s.so.1"):
        (tmp_path / name).write_bytes(b"not a library")
    arguments = ("bitnet-portable", q4_0_guide)
    assert json.loads(run_python(OPEN_HERE, *arguments, cwd=tmp_path)) == []


@needs_tree
def test_the_linker_alone_would_load_what_is_planted(tmp_path: Path) -> None:
    shutil.copy(library("standard", "libggml.so"), tmp_path)
    mapped = json.loads(run_python(LINK_HERE, library("bitnet-portable"), cwd=tmp_path))
    assert str(tmp_path / "libggml.so") in mapped


@needs_tree
@pytest.mark.parametrize("mode", [ctypes.DEFAULT_MODE, ctypes.RTLD_GLOBAL])
def test_another_library_of_its_name_in_the_process_is_a_conflict(
    mode: int, q4_0_guide: Path
) -> None:
    other = library("standard", "libggml.so")
    code = run_python(OPEN_AFTER, other, "bitnet-portable", q4_0_guide, mode)
    assert code == "runtime_conflict\n"


@needs_tree
def test_a_ggml_that_all_can_see_is_a_conflict_for_any_runtime(q4_0_guide: Path) -> None:
    other = library("standard", "libggml.so")
    code = run_python(OPEN_AFTER, other, "mineru", q4_0_guide, ctypes.RTLD_GLOBAL)
    assert code == "runtime_conflict\n"


@needs_tree
def test_a_tensor_type_that_would_end_the_process_is_refused(tmp_path: Path) -> None:
    kind = GGMLQuantizationType.TQ2_0
    weights = quantize(np.ones((1, 256), dtype=np.float32), kind)
    model = write_with_tensor(tmp_path / "model.gguf", "extra.weight", weights, kind)
    code, message = answers("bitnet-portable", model)
    assert code == "gguf_unsupported"
    assert "TQ2_0" in message


@needs_tree
def test_an_architecture_of_later_years_is_refused(tmp_path: Path) -> None:
    code, message = answers(
        "bitnet-portable", write_tiny(tmp_path / "m.gguf", architecture="qwen3")
    )
    assert code == "gguf_unsupported"
    assert "qwen3" in message


@needs_tree
def test_scales_beside_the_weights_are_refused(tmp_path: Path) -> None:
    scale = np.ones(1, dtype=np.float32)
    kind = GGMLQuantizationType.F32
    model = write_with_tensor(tmp_path / "model.gguf", "blk.0.attn_q.scale", scale, kind)
    code, message = answers("bitnet-portable", model)
    assert code == "gguf_unsupported"
    assert "scales" in message


@needs_tree
def test_why_a_model_cannot_be_loaded_is_quoted(tmp_path: Path) -> None:
    surplus = np.ones(1, dtype=np.float32)
    kind = GGMLQuantizationType.F32
    model = write_with_tensor(tmp_path / "model.gguf", "blk.0.surplus.weight", surplus, kind)
    code, message = answers("bitnet-portable", model)
    assert code == "model_load_failed"
    assert "wrong number of tensors" in message


@needs_tree
def test_a_variant_that_is_not_there_is_refused() -> None:
    with pytest.raises(EngineError, match="neither a folder nor the id"):
        list_runtimes("bitnet-amd-zen99")


@needs_tree
def test_a_bitnet_model_is_refused_before_it_is_transcoded(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "model.gguf", architecture="bitnet-b1.58")
    code, message = answers("bitnet-portable", model)
    assert code == "gguf_unsupported"
    assert "BitNet" in message


@needs_tree
def test_a_recurrent_model_is_refused(tmp_path: Path) -> None:
    file = ORIGINALS["recurrent"](tmp_path)
    assert not isinstance(file, list)
    model = tmp_path / "model.gguf"
    model.write_bytes(file.encode()[0])
    code, message = answers("bitnet-portable", model)
    assert code == "gguf_unsupported"
    assert "recurrent" in message
