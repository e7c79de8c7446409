"""The Windows registry, as far as browsers look for manifests in it. Imported on Windows only."""

from __future__ import annotations

import contextlib
import sys

assert sys.platform == "win32"

import winreg  # noqa: E402

__all__ = ["WindowsRegistry"]


class WindowsRegistry:
    """Keys below `HKEY_CURRENT_USER` and their default values."""

    def get(self, key: str) -> str | None:
        """Return the key's default value; None when there is none."""
        try:
            return winreg.QueryValue(winreg.HKEY_CURRENT_USER, key) or None
        except FileNotFoundError:
            return None

    def set(self, key: str, value: str) -> None:
        """Set the key's default value; makes the key."""
        winreg.SetValue(winreg.HKEY_CURRENT_USER, key, winreg.REG_SZ, value)

    def delete(self, key: str) -> None:
        """Delete the key; an absent one is no error."""
        with contextlib.suppress(FileNotFoundError):
            winreg.DeleteKey(winreg.HKEY_CURRENT_USER, key)
