"""What all tests share: the event loops, the watch for blocking calls, the model files."""

from __future__ import annotations

import logging
import os
import socket
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tests.gguf_fixtures import (
    ChainModel,
    numbered_pieces,
    write_as_q4_0,
    write_chain,
    write_tiny,
)
from tests.hub.local_hub import LocalHub, local_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Loop = tuple[str, dict[str, bool]]

ASYNCIO: Loop = ("asyncio", {"use_uvloop": False})
UVLOOP: Loop = ("asyncio", {"use_uvloop": True})

BOTH_LOOPS = [
    pytest.param(ASYNCIO, id="asyncio"),
    pytest.param(
        UVLOOP, id="uvloop", marks=pytest.mark.skipif(sys.platform == "win32", reason="no uvloop")
    ),
]


@pytest.fixture
def anyio_backend() -> Loop:
    return ASYNCIO


@pytest.fixture(scope="session", autouse=True)
def own_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide this machine's settings and runtimes: a process opens one runtime, the bundled one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TABAGENT_")]:
            if name != "TABAGENT_REQUIRE_BROWSER":
                patch.delenv(name)
        patch.setenv("TABAGENT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail any call that would block a running event loop."""
    with blockbuster_ctx():
        yield


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        internet = self.family in {socket.AF_INET, socket.AF_INET6}
        if internet and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise OSError(f"tests may not connect to {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def restored_loggers() -> Iterator[None]:
    """Undo what `configure_logging` does to the whole process."""
    loggers = [logging.getLogger(name) for name in ("", "tabagent", "uvicorn")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's model files are."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def chain_model(models_dir: Path) -> ChainModel:
    """Answers `KNOWN_ANSWER` to any prompt."""
    return write_chain(models_dir / "chain.gguf")


@pytest.fixture(scope="session")
def long_chain_model(models_dir: Path) -> ChainModel:
    """Answers ` 0 1 2 …` up to 599 to any prompt."""
    return write_chain(models_dir / "long-chain.gguf", numbered_pieces(600))


@pytest.fixture(scope="session")
def tiny_model(models_dir: Path) -> Path:
    """Answers anything: random weights."""
    return write_tiny(models_dir / "tiny.gguf")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A Hub that the processes which this test starts take for the real one."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    with local_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("NO_PROXY", "*")
        yield hub


@pytest.fixture(scope="session")
def q4_0_guide(models_dir: Path) -> Path:
    """The embedded guide, a trained model, as Q4_0: any runtime says the same of it."""
    guide = Path(str(files("tabagent_backends") / "guide" / "tabagent-guide.gguf"))
    return write_as_q4_0(guide, models_dir / "guide-q4_0.gguf")
