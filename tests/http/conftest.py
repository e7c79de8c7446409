from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from tabagent.config import Paths
from tabagent.core.access import AccessPolicy
from tabagent.core.backend import BackendConfig, ModelSpec
from tabagent.core.engine import Engine, EngineLimits
from tabagent.http import build_app
from tabagent.origins import OriginStore
from tabagent.testing import ScriptedBackend

from tests.http.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MODEL = ModelSpec("m", "scripted:m", "scripted")


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(BackendConfig(parallel=1))


@pytest.fixture
async def engine(backend: ScriptedBackend) -> AsyncIterator[Engine]:
    """One model that decodes one request at a time, while one waits."""
    async with Engine({"scripted": backend}, [MODEL], limits=EngineLimits(max_queue=1)) as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine) -> Client:
    """The client of a server whose model is ready."""
    await engine.load("m")
    return serve(engine)


@pytest.fixture
def origins(tmp_path: Path) -> OriginStore:
    """Origins of an installation that has none yet."""
    return OriginStore(Paths.locate({"TABAGENT_HOME": str(tmp_path)}))


def serve(
    engine: Engine,
    access: AccessPolicy | None = None,
    origins: OriginStore | None = None,
    *,
    max_body_size: int = 10_000,
    keep_alive_interval: float = 60.0,
) -> Client:
    return Client(
        build_app(
            engine,
            access=access or AccessPolicy(),
            origins=origins,
            system_info=lambda: {"version": "1"},
            max_body_size=max_body_size,
            keep_alive_interval=keep_alive_interval,
        )
    )


async def submitted(backend: ScriptedBackend, count: int = 1) -> str:
    """Wait for the `count`-th request of the backend and return its id."""
    with anyio.fail_after(10):
        while len(backend.submitted) < count:
            await anyio.lowlevel.checkpoint()
    return backend.submitted[count - 1]
