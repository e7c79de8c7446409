from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import msgspec
import pytest
from tabagent.hub.report import ErrorReport, ProgressReport, PulledReport, Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hub.local_hub import LocalHub


_REPORTS: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


class Puller:
    """Pulls into a folder, each time by a process of its own, as the server does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress: list[ProgressReport] = []

    def pull(self, reference: str) -> PulledReport | ErrorReport:
        with self.start(reference) as (process, stdout):
            *progress, last = [_report(line) for line in stdout]
            assert process.wait(30) == (0 if isinstance(last, PulledReport) else 1)
        self.progress = [report for report in progress if isinstance(report, ProgressReport)]
        assert len(self.progress) == len(progress)
        assert not isinstance(last, ProgressReport)
        return last

    def refusal(self, reference: str) -> tuple[str, str]:
        """The code and the text with which a pull fails."""
        report = self.pull(reference)
        assert isinstance(report, ErrorReport), report
        return report.code, report.message

    def kill_at(self, reference: str, done: int) -> None:
        """Kill a pull as soon as it has told of so many bytes."""
        with self.start(reference) as (process, stdout):
            for line in stdout:
                report = _report(line)
                assert isinstance(report, ProgressReport), report
                if report.done >= done:
                    process.kill()
                    break

    @contextmanager
    def start(self, reference: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        command = [sys.executable, "-m", "tabagent.hub", reference, str(self.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                yield process, process.stdout
            finally:
                process.kill()

    def visible(self) -> list[str]:
        """What the models folder shows."""
        files = [each.relative_to(self.folder) for each in self.folder.rglob("*") if each.is_file()]
        return sorted(str(file) for file in files if not file.parts[0].startswith("."))

    def staged(self) -> int:
        """Bytes that wait for the next pull."""
        return sum(file.stat().st_size for file in self.folder.glob(".pulling/**/*.partial"))


@pytest.fixture
def puller(tmp_path: Path, hub: LocalHub) -> Puller:
    return Puller(tmp_path / "models")


def _report(line: bytes) -> Report:
    return _REPORTS.decode(line)
