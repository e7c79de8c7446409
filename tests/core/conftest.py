"""The core runs on both loops."""

from __future__ import annotations

import sys
from typing import cast

import pytest

from tests.conftest import ASYNCIO, UVLOOP, Loop

LOOPS = [ASYNCIO] if sys.platform == "win32" else [ASYNCIO, UVLOOP]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"][: len(LOOPS)])
def anyio_backend(request: pytest.FixtureRequest) -> Loop:
    return cast("Loop", request.param)
