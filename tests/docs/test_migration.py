"""The example and the commands of docs/migration.md are real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from tests.gguf_fixtures import ChainModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text("utf-8")


def test_the_example_loads_generates_and_unloads(chain_model: ChainModel) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = f"model_path = {str(chain_model.path)!r}\n{example}"
    said = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=50
    ).stdout
    assert said.startswith("llama\n")
    assert said.count(KNOWN_ANSWER[:20]) == 2


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"\btests/[\w/.]+", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
