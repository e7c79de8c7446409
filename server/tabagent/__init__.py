"""The local inference server for browsers."""

__version__ = "0.1.0"
