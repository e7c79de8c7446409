"""Ternary files in the engine: transcoded once, right, and whole whoever is killed."""

from __future__ import annotations

import json
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tabagent_engine import EngineError, GgufEngine, inspect_gguf, load_model, prune_transcoded
from tabagent_engine.transcoded import folder

from tests.ternary_fixtures import write_ternary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ternary_fixtures import Architecture

PROMPT = [1, *range(40, 70), *range(260, 290)]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own."""
    monkeypatch.setenv("TABAGENT_HOME", str(tmp_path / "home"))


@pytest.fixture
def ternary_file(tmp_path: Path) -> Path:
    return write_ternary(tmp_path / "ternary.gguf")


def likeliest(path: Path, prompts: list[list[int]]) -> list[dict[int, float]]:
    """Log-probabilities of the 20 likeliest tokens after each prompt."""
    ours, engines = socket.socketpair()
    with ours, engines:
        engine = GgufEngine.open(path, wake_fd=engines.fileno(), parallel=1, threads=1)
        try:
            return [_ask(engine, ours, number, prompt) for number, prompt in enumerate(prompts)]
        finally:
            engine.close()


def _ask(
    engine: GgufEngine, wakeups: socket.socket, number: int, prompt: list[int]
) -> dict[int, float]:
    wish = {"max_tokens": 1, "logprobs": 20, "temperature": 0.0, "ignore_eos": True}
    engine.submit(number, prompt, credit=1, **wish)  # type: ignore[arg-type]
    found: dict[int, float] = {}
    while True:
        assert select.select([wakeups], [], [], 30)[0]
        wakeups.recv(1)
        for event in engine.drain():
            if event[0] == "delta" and event[4]:
                found = {token: logprob for token, _, logprob in event[4][0][1]}
            assert event[0] != "failed", event
            if event[0] == "finished":
                return found


@pytest.mark.parametrize("architecture", ["llama", "bitnet", "bitnet-b1.58", "bitnet-25"])
def test_a_file_of_i2_s_answers_as_one_of_the_same_weights_in_f32(
    architecture: Architecture, tmp_path: Path
) -> None:
    prompts = [PROMPT[:length] for length in range(1, len(PROMPT), 5)]
    ternary = likeliest(write_ternary(tmp_path / "ternary.gguf", architecture), prompts)
    plain = likeliest(write_ternary(tmp_path / "plain.gguf", architecture, "F32"), prompts)
    for ours, theirs in zip(ternary, plain, strict=True):
        best, second, *_ = sorted(theirs.values(), reverse=True)
        if best - second > 0.3:
            assert max(ours, key=ours.__getitem__) == max(theirs, key=theirs.__getitem__)
        both = sorted(ours.keys() & theirs.keys())
        assert len(both) > 12
        differences = np.array([ours[token] - theirs[token] for token in both])
        # Activations are rounded to 8 bits; logits whose deviation is 3 move by little.
        assert np.sqrt(np.mean(differences**2)) < 0.2


def test_the_work_is_told_as_it_goes_and_done_once(ternary_file: Path) -> None:
    told = opened(ternary_file)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert opened(ternary_file) == []
    assert len(list(folder().glob("*.gguf"))) == 1


def opened(path: Path) -> list[float]:
    """Open a model and close it; what its progress was."""
    told: list[float] = []
    ours, engines = socket.socketpair()
    with ours, engines:
        GgufEngine.open(path, wake_fd=engines.fileno(), threads=1, progress=told.append).close()
    return told


def test_what_progress_raises_ends_the_work_and_leaves_nothing(ternary_file: Path) -> None:
    def give_up(share: float) -> None:
        raise KeyboardInterrupt(share)

    ours, engines = socket.socketpair()
    with ours, engines, pytest.raises(KeyboardInterrupt):
        GgufEngine.open(ternary_file, wake_fd=engines.fileno(), progress=give_up)
    assert [path.suffix for path in folder().iterdir() if path.suffix != ".lock"] == []


def child(path: Path, at_half: str) -> list[str]:
    """A command that opens a model and does something when half of it is transcoded."""
    program = f"""
        import os, signal, socket, sys
        from tabagent_engine import GgufEngine

        done = False
        def progress(share):
            global done
            if share >= 0.5 and not done:
                done = True
                {at_half}

        ours, engines = socket.socketpair()
        path, fd = {str(path)!r}, engines.fileno()
        GgufEngine.open(path, wake_fd=fd, threads=1, progress=progress).close()
    """
    return [sys.executable, "-c", textwrap.dedent(program)]


def test_a_process_killed_in_the_middle_leaves_nothing_that_is_taken_for_whole(
    ternary_file: Path,
) -> None:
    killed = subprocess.run(
        child(ternary_file, "os.kill(os.getpid(), signal.SIGKILL)"), check=False, timeout=50
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(folder().glob("*.gguf")) == []
    assert len(list(folder().glob(".*.partial"))) == 1
    assert opened(ternary_file)[-1] == 1.0
    assert list(folder().glob(".*.partial")) == []


def test_of_two_processes_the_second_waits_and_takes_what_the_first_wrote(
    ternary_file: Path,
) -> None:
    pause = "print('half', flush=True); sys.stdin.readline()"
    first = subprocess.Popen(
        child(ternary_file, pause), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "half\n"
        told: list[float] = []

        def progress(share: float) -> None:
            if not told:
                assert first.stdin is not None
                first.stdin.write("go on\n")
                first.stdin.flush()
            told.append(share)

        ours, engines = socket.socketpair()
        with ours, engines:
            fd = engines.fileno()
            GgufEngine.open(ternary_file, wake_fd=fd, threads=1, progress=progress).close()
        assert first.wait(50) == 0
    # Who waits is told 0 and nothing more.
    assert set(told) == {0.0}
    assert len(list(folder().glob("*.gguf"))) == 1


def test_a_handler_loads_ternary_files_too(ternary_file: Path) -> None:
    model = load_model(ternary_file)
    try:
        assert model.generate("Hello", max_tokens=4, temperature=0.0, seed=1) is not None
    finally:
        model.unload()


def test_pruning_takes_what_no_model_is_opening(ternary_file: Path, tmp_path: Path) -> None:
    assert prune_transcoded() == (0, 0)
    opened(ternary_file)
    (kept,) = folder().glob("*.gguf")
    size = kept.stat().st_size
    assert prune_transcoded(size) == (0, 0)
    assert prune_transcoded() == (1, size)
    assert not kept.exists()


def test_a_moved_file_is_known_again(ternary_file: Path, tmp_path: Path) -> None:
    opened(ternary_file)
    assert opened(ternary_file.rename(tmp_path / "moved.gguf")) == []
    shutil.copy2(tmp_path / "moved.gguf", tmp_path / "copied.gguf")
    assert opened(tmp_path / "copied.gguf") == []


def test_codes_of_no_ternary_value_are_refused(ternary_file: Path) -> None:
    content = bytearray(ternary_file.read_bytes())
    # The last tensor is a vector of F32; before it lie a tail and codes.
    at = len(content) - 1024 - 32 - 100
    content[at] = 0xFF
    ternary_file.write_bytes(content)
    with pytest.raises(EngineError) as refusal:
        opened(ternary_file)
    assert refusal.value.code == "gguf_invalid"
    assert "ternary" in str(refusal.value)


def test_inspection_tells_how_a_ternary_file_runs(ternary_file: Path) -> None:
    found: Any = inspect_gguf(ternary_file)
    assert found["problem"] is None
    assert found["ternary"] == {
        "encoding": "I2_S",
        "tensors": 14,
        "runs_as": ["TQ2_0", "Q4_0"],
        "needs_transcoding": True,
        "squared_relu": False,
    }
    opened(ternary_file)
    (transcoded,) = folder().glob("*.gguf")
    found = inspect_gguf(transcoded)
    assert (found["problem"], found["ternary"]["needs_transcoding"]) == (None, False)
    assert json.dumps(found)
