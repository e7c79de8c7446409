"""The `BitnetRelease` tree that some tests want; its variants run in processes of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

__all__ = ["TREE", "VARIANTS", "needs_tree"]

TREE: Final = Path(os.environ.get("TABAGENT_BITNET_RELEASE", os.devnull))
"""Read while tests are collected: they themselves run without this machine's settings."""

VARIANTS: Final = sorted(library.parent.name for library in TREE.glob("cpu/linux/*/libllama.so"))
"""Names of the variants in the tree."""

needs_tree = pytest.mark.skipif(not VARIANTS, reason="no BitnetRelease tree")
