"""WebSocket: the transport of pages, extensions and agents."""

from __future__ import annotations

from .listener import WebSocketListener
from .transport import WebSocketTransport

__all__ = ["WebSocketListener", "WebSocketTransport"]
