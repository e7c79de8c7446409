"""Logging set-up: stderr only, as text or JSON lines; prompts and answers are never logged."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["configure_logging"]

EXTRAS: Final = ("request_id", "connection_id", "model")
"""Attributes that a log call may pass as `extra`; they appear in every format."""

_NAMES: Final = {"uvicorn.error": "uvicorn", "uvicorn.access": "access"}


def configure_logging(
    level: str, style: Literal["text", "json"], stream: TextIO | None = None
) -> None:
    """Send every logger to stderr in one format, those of libraries from warnings on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(_as_json if style == "json" else _as_text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in ("tabagent", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)


class _Formatter(logging.Formatter):
    """Hands each record's fields to one of the formats."""

    def __init__(self, write: Callable[[dict[str, Any]], str]) -> None:
        super().__init__()
        self._write = write

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": _NAMES.get(record.name, record.name),
            "message": record.getMessage(),
        }
        for name in EXTRAS:
            if (value := getattr(record, name, None)) is not None:
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._write(fields)


def _as_json(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields, enc_hook=str).decode()


def _as_text(fields: dict[str, Any]) -> str:
    exception = fields.pop("exception", None)
    words = [fields.pop(name) for name in ("time", "level", "logger", "message")]
    line = " ".join(map(_one_line, [*words, *(f"{name}={fields[name]}" for name in fields)]))
    return f"{line}\n{exception}" if exception else line


def _one_line(word: str) -> str:
    """Keep what a client sent from faking a line of its own."""
    return (
        word
        if word.isprintable()
        else "".join(c if c.isprintable() else repr(c)[1:-1] for c in word)
    )
