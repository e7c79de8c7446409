"""The program that a manifest names: it runs the shim with the interpreter that installed it."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from .manifest import Platform

__all__ = ["launcher_name", "launcher_text", "recorded_interpreter"]

NOTE: Final = "Written by `tabagent host install`."

RUN: Final = "import sys; sys.path.append(sys.argv.pop(1)); import shim; shim.main()"
"""Runs the shim as a module: unlike a script, that is compiled once and not on every connect."""


def launcher_name(platform: Platform) -> str:
    """Return the launcher's file name."""
    return "launch.bat" if platform == "win32" else "launch"


def launcher_text(
    platform: Platform, interpreter: str, shim: Path, state: Path, tabagent_home: str | None
) -> str:
    """Return a launcher that hands on what the browser says.

    The server that the shim starts gets the folders of this installation, whatever the browser's
    environment says.
    """
    command = [interpreter, "-IS", "-c", RUN, str(shim.parent), str(state)]
    if platform == "win32":
        return _batch(command, tabagent_home)
    home = "unset TABAGENT_HOME"
    if tabagent_home:
        home = f"export TABAGENT_HOME={shlex.quote(tabagent_home)}"
    return f'#!/bin/sh\n# {NOTE}\n{home}\nexec {shlex.join(command)} "$@"\n'


def recorded_interpreter(text: str) -> str | None:
    """Return the interpreter that a launcher runs; None when that is no launcher of ours."""
    for line in text.splitlines():
        if line.startswith("exec "):
            with contextlib.suppress(ValueError):
                return shlex.split(line)[1]
        if line.startswith('"'):
            return line.split('"')[1].replace("%%", "%")
    return None


def _batch(command: list[str], tabagent_home: str | None) -> str:
    words = [f'"{_batch_text(word)}"' for word in command]
    lines = [
        "@echo off",
        f"rem {NOTE}",
        f'set "TABAGENT_HOME={_batch_text(tabagent_home or "")}"',
        f"{' '.join(words)} %*",
    ]
    if not "".join(lines).isascii():
        lines.insert(1, "chcp 65001 >nul")
    return "\r\n".join([*lines, ""])


def _batch_text(text: str) -> str:
    return text.replace("%", "%%")
