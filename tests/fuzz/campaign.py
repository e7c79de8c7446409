"""Gives mutants to children and counts how they end; a child that dies or hangs is a find."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from .mutations import mutant
from .originals import ORIGINALS, file_names, written

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .gguf_file import GgufFile

PATIENCE: Final = 60.0
"""Seconds after which a child counts as hanging; a trial takes some milliseconds."""


@dataclasses.dataclass
class Crash:
    """One mutant that ended or hung its process."""

    number: int
    original: str
    cause: str
    kept: Path | None
    last_words: str


@dataclasses.dataclass
class Result:
    """How the mutants ended: by code, and the crashes."""

    codes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    reasons: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    crashes: list[Crash] = dataclasses.field(default_factory=list)

    def add(self, answer: str) -> None:
        code, _, message = answer.partition(" ")
        self.codes[code.rstrip(",")] += 1
        self.reasons.setdefault(code.rstrip(","), collections.Counter())[message] += 1


class Child:
    """A process that tries one file after the other. It has a folder to itself."""

    def __init__(self, folder: Path, runtime: str | None = None) -> None:
        self._stderr = folder / "stderr"
        # Transcoded models go there as well. Another home would have other runtimes.
        environment = {"XDG_CACHE_HOME": str(folder), "GGML_NO_BACKTRACE": "1"}
        with self._stderr.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.trials", *([runtime] if runtime else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
                # An abort must end the process, not start a debugger in it.
                env={**os.environ, **environment},
            )

    def trial(self, path: Path) -> str | None:
        """The child's answer; None when it died or hung. It is of no further use then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{path}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        answer = self._process.stdout.readline() if ready else b""
        return answer.decode().rstrip("\n") or None

    def cause_of_death(self) -> str:
        """What became of a child that gave no answer."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "hang"
        return signal.Signals(-code).name if code < 0 else f"exit {code}"

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        return self._stderr.read_bytes()[-2000:].decode(errors="replace")

    def kill(self) -> None:
        """End the process; `close` cleans up after it."""
        self._process.kill()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Campaign:
    """Mutants of one seed in one runtime. `keep` is where those that crash are put."""

    def __init__(self, seed: int, keep: Path | None = None, runtime: str | None = None) -> None:
        self.seed = seed
        self._runtime = runtime
        self.result = Result()
        self._keep = keep
        self._lock = threading.Lock()
        self._originals: dict[str, list[GgufFile]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, make in ORIGINALS.items():
                files = make(Path(folder))
                self._originals[name] = files if isinstance(files, list) else [files]

    def mutant(self, number: int) -> tuple[str, dict[str, bytes]]:
        """The name of the original, and file names and contents; the same for each run."""
        rng = Random(f"{self.seed}/{number}")
        name = list(ORIGINALS)[number % len(ORIGINALS)]
        files = self._originals[name]
        changed = rng.randrange(len(files))
        contents = [
            mutant(file, rng) if index == changed else file.encode()[0]
            for index, file in enumerate(files)
        ]
        digest = hashlib.sha256(contents[changed]).hexdigest()[:12]
        return name, dict(zip(file_names(f"{name}-{digest}", len(files)), contents, strict=True))

    def run(
        self, count: int, children: int, progress: Callable[[int], None] = lambda _: None
    ) -> Result:
        """Try the mutants 0 to `count`, in that many processes."""
        numbers = iter(range(count))

        def work(folder: Path) -> None:
            child = Child(folder, self._runtime)
            while True:
                with self._lock:
                    number = next(numbers, None)
                if number is None:
                    break
                child = self._try(number, child, folder)
                progress(number)
            child.close()

        with tempfile.TemporaryDirectory(prefix="tabagent-fuzz-") as folder:
            places = [Path(folder, str(index)) for index in range(children)]
            for place in places:
                place.mkdir()
            with ThreadPoolExecutor(children) as pool:
                list(pool.map(work, places))
        return self.result

    def _try(self, number: int, child: Child, folder: Path) -> Child:
        name, files = self.mutant(number)
        path = written(files, folder)
        answer = child.trial(path)
        for each in files:
            (folder / each).unlink()
        if answer is not None:
            with self._lock:
                self.result.add(answer)
            return child
        crash = Crash(number, name, child.cause_of_death(), None, child.last_words())
        child.close()
        if self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            crash.kept = written(files, self._keep)
        with self._lock:
            self.result.crashes.append(crash)
        return Child(folder, self._runtime)
