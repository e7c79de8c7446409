"""A real server process with real models, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.gguf_fixtures import ChainModel

    Process = subprocess.Popen[str]

READY = "TabAgent is ready at "


@contextmanager
def serving(
    home: Path,
    *flags: str,
    within: Callable[[Callable[[], Process]], Process] = lambda call: call(),
) -> Iterator[str]:
    """Run a server of its own, in `home`; gives its address. `within` calls what starts it."""
    command = [sys.executable, "-m", "tabagent", "serve", "--port", "0", "--log-level", "warning"]

    def start() -> Process:
        return subprocess.Popen(
            [*command, *flags],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TABAGENT_HOME": str(home), "TABAGENT_THREADS": "1"},
        )

    with within(start) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.fixture(scope="session")
def server(
    chain_model: ChainModel,
    long_chain_model: ChainModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The address of a server with the models `chain` and `long`."""
    models = [f"--model=chain={chain_model.path}", f"--model=long={long_chain_model.path}"]
    with serving(tmp_path_factory.mktemp("home"), *models) as address:
        yield address


@pytest.fixture(scope="session")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that repeats what it is told."""
    with serving(tmp_path_factory.mktemp("home"), "--model=demo=echo:demo") as address:
        yield address


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
        said.append(line)
    raise AssertionError(f"the server did not start: {''.join(said)}")
