"""Fixtures of the native messaging tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transports.native.ports import Home

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Folders of a user who has installed the host."""
    return Home(tmp_path / "home")
