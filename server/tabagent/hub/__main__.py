"""Pulls one model in a process of its own: `python -m tabagent.hub REFERENCE FOLDER`.

Servers pull so: what a download needs of memory and modules goes with the process, and a kill ends
it at once, however long the Hub is silent. Each line of stdout is a JSON object: progress, and at
last the model's file or the error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from tabagent.core.errors import TabagentError

from .download import pull_model
from .reference import parse_reference
from .report import ErrorReport, ProgressReport, PulledReport, Report


def main() -> None:
    """Pull what the arguments name."""
    text, folder = sys.argv[1:]
    try:
        reference = parse_reference(text)
        file = pull_model(reference, Path(folder), lambda *told: _report(ProgressReport(*told)))
    except TabagentError as error:
        _report(ErrorReport(error.code, error.message, error.param, error.retry_after))
        sys.exit(1)
    _report(PulledReport(str(file)))


def _report(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
