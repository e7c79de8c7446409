"""Where models are while they are pulled: a hidden folder in the models folder."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["remove_staged", "staging_folder"]

STAGING: Final = ".pulling"
DIGITS: Final = 12
"""Of the hash that tells apart two contents under one name."""


def staging_folder(folder: Path, name: str, contents: Iterable[str]) -> Path:
    """Return the folder of a model and its contents; it need not exist."""
    identity = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:DIGITS]
    return folder / STAGING / f"{name}-{identity}"


def remove_staged(name: str, folder: Path) -> bool:
    """Delete what interrupted pulls have left of a model; return whether there was anything.

    A pull that runs meanwhile fails.
    """
    found = [place for place in (folder / STAGING).glob("*/") if place.name[: -DIGITS - 1] == name]
    for place in found:
        shutil.rmtree(place)
        place.with_name(f"{place.name}.lock").unlink(missing_ok=True)
    return bool(found)
