"""HTTP routes over the core."""

from __future__ import annotations

from .application import build_app

__all__ = ["build_app"]
