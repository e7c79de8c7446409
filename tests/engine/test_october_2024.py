"""A library of October 2024, of the generation of the BitNet fork, put into a tree as a variant."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from tabagent_engine import list_runtimes

from tests.bitnet_release import answers
from tests.gguf_fixtures import write_with_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).with_name("october_2024")

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm"),
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the library is for x86"
    ),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree of one variant; fetched from the registry."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGE / name, tree)
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--silent"], cwd=tree, check=True
    )
    (fetched,) = tree.glob("node_modules/@node-llama-cpp/*/bins/*")
    shutil.copytree(fetched, tree / "cpu" / "linux" / "bitnet-portable")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TABAGENT_BITNET_RELEASE", str(tree))
        yield tree


@pytest.fixture(autouse=True)
def able(tree: Path) -> None:
    if not list_runtimes(str(tree))[0]["allowed"]:
        pytest.skip("this processor lacks what the library needs")


def test_it_answers_as_a_library_of_today(q4_0_guide: Path) -> None:
    answer = answers("bitnet-portable", q4_0_guide)
    assert "local inference server" in json.dumps(answer)
    assert answer == answers("mineru", q4_0_guide)


def test_a_tensor_type_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    block = np.zeros((1, 17), dtype=np.uint8)
    kind = GGMLQuantizationType.MXFP4
    model = write_with_tensor(tmp_path / "model.gguf", "extra.weight", block, kind)
    code, message = answers("bitnet-portable", model)
    assert code == "gguf_unsupported"
    assert "MXFP4" in message
