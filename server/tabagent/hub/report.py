"""What the process of a pull tells the server, one JSON object per line."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

__all__ = ["ErrorReport", "ProgressReport", "PulledReport", "Report"]


class ProgressReport(Struct, frozen=True, tag="progress"):
    """`done` of the model's `total` bytes are there; `file` is the one that arrives."""

    file: str
    done: int
    total: int


class PulledReport(Struct, frozen=True, tag="pulled"):
    """The model is installed; of a split one this is the first part."""

    file: str


class ErrorReport(Struct, frozen=True, tag="error"):
    """The pull has failed."""

    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None


Report: TypeAlias = ProgressReport | PulledReport | ErrorReport
