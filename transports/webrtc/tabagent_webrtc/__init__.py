"""WebRTC data channels: the transport of pages and peers on other machines."""

from __future__ import annotations

from importlib.util import find_spec

from .listener import WebRTCListener

__all__ = ["WebRTCListener"]

# Looked for, not imported: it takes 50 MB, which a server without peers does not spend.
if find_spec("aiortc") is None:
    raise ModuleNotFoundError("WebRTC needs aiortc", name="aiortc")
