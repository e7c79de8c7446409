"""Transports run on both loops."""

from __future__ import annotations

from typing import cast

import pytest

from tests.conftest import BOTH_LOOPS, Loop


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Loop:
    return cast("Loop", request.param)
