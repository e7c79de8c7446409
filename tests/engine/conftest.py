"""What the engine's tests share: an installed npm runtime, made once a session."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from tabagent_engine import runtimes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of its own."""
    monkeypatch.setenv("TABAGENT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def npm_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the npm runtime in it; fetched from the registry."""
    if shutil.which("npm") is None or sys.platform != "linux":
        pytest.skip("needs npm")
    home = tmp_path_factory.mktemp("npm-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TABAGENT_HOME", str(home))
        runtimes.install()
    yield home
    assert "TABAGENT_HOME" not in os.environ or os.environ["TABAGENT_HOME"] != str(home)
