"""Where transcoded ternary models are kept, and how much of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from platformdirs import PlatformDirs

__all__ = ["LIMIT", "folder"]

LIMIT: Final = 32 << 30
"""Bytes beyond which the least recently used ones leave when a new one comes."""


def folder() -> Path:
    """The folder: `<cache>/transcoded`, under `TABAGENT_HOME` where that is set."""
    if home := os.environ.get("TABAGENT_HOME"):
        return Path(home).expanduser().absolute() / "cache" / "transcoded"
    return PlatformDirs("tabagent", appauthor=False).user_cache_path / "transcoded"
