from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from msgspec import Struct
from tabagent.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Done(Struct):
    """What a command has said."""

    code: int
    out: str
    err: str


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without settings, beside no server."""
    for name in [name for name in os.environ if name.startswith("TABAGENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TABAGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TABAGENT_PORT", "9")  # where nobody listens
    return tmp_path / "home"


@pytest.fixture
def run(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    restored_loggers: None,
) -> Callable[..., Done]:
    """Run a command in this process."""

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        captured = capsys.readouterr()
        return Done(int(exited.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def spawn(home: Path) -> Callable[..., Done]:
    """Run a command in a process of its own: this one may be bound to a runtime already."""

    def spawn(*arguments: str, stdin: str = "") -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "tabagent", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return spawn


class Process:
    """A command in a process of its own; its stderr is read by a thread, line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tabagent", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def line(self, text: str) -> str:
        """Wait for a line of stderr that contains `text`."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._found(text) or self._ended, 30)
            found = self._found(text)
        assert found is not None, self.lines
        return found

    def _found(self, text: str) -> str | None:
        return next((line for line in self.lines if text in line), None)

    def url(self) -> str:
        """Wait until the server is ready."""
        return self.line("TabAgent is ready at ").split()[-1].rstrip('"}')

    def end(self, signal: int | None = None) -> int:
        """Send a signal, if any, and wait for the exit code."""
        if signal is not None:
            self.process.send_signal(signal)
        code = self.process.wait(30)
        self._reader.join(30)
        return code

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.end()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Process]]:
    """Start commands in processes of their own."""
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        processes.append(Process(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.close()
