"""Chrome Native Messaging for TabAgent: the shim, the listener and the installer."""

from .listener import NativeListener

__all__ = ["NativeListener"]
