"""Libraries of 2024 in the folders of a `BitnetRelease` tree; each runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["TREE", "VARIANTS", "answers", "needs_tree", "run_python"]

TREE: Final = Path(os.environ.get("TABAGENT_BITNET_RELEASE", os.devnull))
"""Read while tests are collected: they themselves run without this machine's settings."""

VARIANTS: Final = sorted(library.parent.name for library in TREE.glob("cpu/linux/*/libllama.so"))
"""Names of the variants in the tree."""

needs_tree = pytest.mark.skipif(not VARIANTS, reason="no BitnetRelease tree")

QUESTIONS: Final = ("What is TabAgent?", "How do I install it?", "Which models can it run?")

ANSWER: Final = """
import json, sys
from tabagent_engine import EngineError, GGUFHandler
runtime, model, *questions = sys.argv[1:]
try:
    with GGUFHandler(runtime, model, threads=1) as handler:
        # Left in the middle, the next one must not notice.
        next(handler.stream(questions[0] * 20, max_tokens=60, temperature=0))
        said = [handler.generate(text, max_tokens=60, temperature=0) for text in questions]
        ids = handler.tokenize("Héllo 😀")
        said.append([ids, handler.detokenize(ids)])
except EngineError as error:
    said = [error.code, str(error)]
print(json.dumps(said))
"""


def answers(runtime: str, model: Path) -> Any:
    """What a runtime makes of a model, or the code and message of its refusal."""
    return json.loads(run_python(ANSWER, runtime, model, *QUESTIONS))


def run_python(script: str, *arguments: object, cwd: Path | None = None) -> str:
    """The output of a script, in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout
