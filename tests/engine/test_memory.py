"""What a model is expected to take of memory, against what it takes; and the refusal before."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tabagent_engine import EngineError, GGUFHandler

from benchmarks.models import Shape, write_model
from tests.gguf_fixtures import write_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1 << 20
PROBE = Path(__file__).with_name("memory_probe.py")

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def opener(folder: Path) -> Path:
    return write_tiny(folder / "opener.gguf")


def probe(opener: Path, model: Path, ctx_size: int, group: Path | None = None) -> dict[str, Any]:
    """What the probe prints, in a control group if one is named."""
    command = [sys.executable, str(PROBE), str(opener), str(model), str(ctx_size)]

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=enter)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@linux
@pytest.mark.parametrize(
    ("shape", "ctx_size"),
    [
        (Shape("small", 4, 256, 768, 4, 2, 8192, quantised=True), 2048),
        (Shape("long-context", 8, 256, 768, 8, 8, 4096, quantised=True), 8192),
        (Shape("wide", 2, 1024, 4096, 16, 4, 16_000, quantised=True), 1024),
        (Shape("float", 2, 256, 768, 4, 2, 8192, quantised=False), 1024),
    ],
    ids=lambda value: value.name if isinstance(value, Shape) else "",
)
def test_a_model_takes_what_was_expected(
    folder: Path, opener: Path, shape: Shape, ctx_size: int
) -> None:
    found = probe(opener, write_model(shape, folder), ctx_size)
    # The allocator keeps some pages, whatever the size of the model.
    assert found["measured"] <= found["expected"] * 1.1 + 8 * MEBIBYTE
    assert found["measured"] >= found["expected"] * 0.75 - 8 * MEBIBYTE


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A memory control group of its own below that of this process, of either version."""
    with contextlib.ExitStack() as stack:
        group = _make_group()
        if group is None:
            pytest.skip("no memory control group may be made here")
        stack.callback(group.rmdir)
        yield group


def _make_group() -> Path | None:
    try:
        memberships = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().split()]
    except OSError:
        return None
    for _, controllers, path in memberships:
        if "memory" in controllers.split(","):
            parent = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        elif not controllers:
            parent = Path("/sys/fs/cgroup") / path.lstrip("/")
        else:
            continue
        group = parent / f"tabagent-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if any((group / name).exists() for name in LIMITS):
                return group
            group.rmdir()
    return None


LIMITS = ("memory.max", "memory.limit_in_bytes")


def _limit(group: Path, size: int) -> None:
    next(group / name for name in LIMITS if (group / name).exists()).write_text(str(size))


@linux
def test_what_does_not_fit_into_the_control_group_is_refused_before_it_is_loaded(
    folder: Path, opener: Path, memory_group: Path
) -> None:
    model = write_model(Shape("wide", 2, 1024, 4096, 16, 4, 16_000, quantised=True), folder)
    _limit(memory_group, 64 * MEBIBYTE)
    found = probe(opener, model, 8192, memory_group)
    assert found["code"] == "out_of_memory"
    assert "a limit of 64.0 MiB for the control group" in found["message"]
    assert "weights" in found["message"]
    _limit(memory_group, 1024 * MEBIBYTE)
    assert probe(opener, model, 1024, memory_group).keys() == {"expected", "measured"}


def test_a_cache_larger_than_any_memory_is_refused_with_the_figures(folder: Path) -> None:
    model = write_model(Shape("small", 4, 256, 768, 4, 2, 8192, quantised=True), folder)
    with pytest.raises(EngineError, match=r"cache [\d.]+ GiB") as refusal:
        GGUFHandler(None, model, ctx_size=2**31 - 1)
    assert refusal.value.code == "out_of_memory"
