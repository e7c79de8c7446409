"""Native Messaging frames, sans I/O: a uint32 length in native byte order, then UTF-8 JSON."""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from msgspec import Struct

__all__ = [
    "MAX_FRAME_TO_BROWSER",
    "MAX_FRAME_TO_HOST",
    "Frame",
    "FrameDecoder",
    "OversizedFrame",
    "encode_frame",
]

MAX_FRAME_TO_BROWSER: Final = 1024 * 1024
"""Most bytes of one message to a browser; one more and it closes the port."""

MAX_FRAME_TO_HOST: Final = 64 * 1024 * 1024
"""Most bytes of one message that a Chromium browser sends."""

_LENGTH: Final = struct.Struct("=I")


class OversizedFrame(Struct, frozen=True):
    """Stands for a frame that was skipped because its `size` in bytes is over the limit."""

    size: int


Frame: TypeAlias = bytes | OversizedFrame


def encode_frame(message: bytes, max_size: int = MAX_FRAME_TO_BROWSER) -> bytes:
    """Return `message` with its length in front.

    :raises ValueError: when it is over `max_size` bytes.
    """
    if len(message) > max_size:
        raise ValueError(f"a frame of {len(message)} bytes is over the limit of {max_size}")
    return _LENGTH.pack(len(message)) + message


class FrameDecoder:
    """Cuts a byte stream, however it is chunked, into frames of at most `max_size` bytes.

    A larger frame is reported once, when its length is known, and then skipped without being
    kept, so the stream goes on behind it.
    """

    def __init__(self, max_size: int = MAX_FRAME_TO_HOST) -> None:
        self.max_size = max_size
        self._buffer = bytearray()
        self._skip = 0

    @property
    def buffered(self) -> int:
        """Bytes kept of a frame that is not whole yet."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[Frame]:
        """Take more bytes of the stream; return the frames that they complete."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, start)
            body = start + _LENGTH.size
            end = body + size
            if size > self.max_size:
                frames.append(OversizedFrame(size))
                self._skip = max(0, end - len(buffer))
            elif end > len(buffer):
                break
            else:
                frames.append(bytes(buffer[body:end]))
            start = min(end, len(buffer))
        del buffer[:start]
        return frames
