"""Cuts a message that is too long for its transport into `tabagent.chunk` messages, and back."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ..core.errors import ProtocolError

__all__ = ["ChunkJoiner", "split_message"]

CHUNK_TYPE: Final = "tabagent.chunk"
MAX_OPEN: Final = 8
"""Messages of one peer that may be incomplete at the same time."""


class Chunk(Struct, frozen=True, tag=CHUNK_TYPE):
    """One piece of a JSON text; `data` is cut at code points."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    index: Annotated[int, Meta(ge=0)]
    last: bool
    data: str


class _Typed(Struct, frozen=True):
    type: object = None


_encode = msgspec.json.Encoder().encode
_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_chunk = msgspec.json.Decoder(Chunk).decode


def split_message(message: bytes, max_size: int, chunk_id: str) -> list[bytes]:
    """Return `message` (UTF-8 JSON) alone when it fits, else its chunks of at most `max_size`.

    `chunk_id` is unique among the sender's incomplete messages. `max_size` is 256 or more.
    """
    if len(message) <= max_size:
        return [message]
    envelope = len(_encode(Chunk(chunk_id, len(message), False, "")))
    step = max_size - envelope
    chunks: list[bytes] = []
    start = 0
    while start < len(message):
        end = _code_point_boundary(message, start + step)
        piece = message[start:end].decode()
        chunk = _encode(Chunk(chunk_id, len(chunks), end == len(message), piece))
        if len(chunk) > max_size:  # quotes and backslashes grow when they are escaped again
            step = step * max_size // (len(chunk) + 8)
            continue
        chunks.append(chunk)
        start = end
    return chunks


def _code_point_boundary(text: bytes, position: int) -> int:
    if position >= len(text):
        return len(text)
    while text[position] & 0xC0 == 0x80:
        position -= 1
    return position


class ChunkJoiner:
    """Joins the chunks of one peer; messages of different ids may be interleaved."""

    def __init__(self, max_size: int) -> None:
        """Refuse joined messages of more than `max_size` bytes."""
        self._max_size = max_size
        self._open: dict[str, _Pieces] = {}

    def receive_message(self, message: str) -> str | None:
        """Return the message that this one is or completes; None while pieces are missing.

        :raises ProtocolError: `invalid_message` or `message_too_big`; once per joined message,
            whose other chunks are then dropped.
        """
        if f'"{CHUNK_TYPE}"' not in message or not _is_chunk(message):
            return message
        try:
            chunk = _decode_chunk(message)
        except msgspec.DecodeError as error:
            raise ProtocolError("invalid_message", f"{CHUNK_TYPE}: {error}") from None
        pieces = self._open.get(chunk.id)
        if pieces is None:
            if len(self._open) >= MAX_OPEN:
                text = f"{CHUNK_TYPE}: more than {MAX_OPEN} messages are incomplete"
                raise ProtocolError("invalid_message", text)
            pieces = self._open[chunk.id] = _Pieces()
        if chunk.last:
            del self._open[chunk.id]
        return pieces.add(chunk, self._max_size)


class _Pieces:
    def __init__(self) -> None:
        self._texts: list[str] = []
        self._size = 0
        self._refused = False

    def add(self, chunk: Chunk, max_size: int) -> str | None:
        if self._refused:
            return None
        self._size += len(chunk.data.encode())
        if chunk.index != len(self._texts):
            self._refuse()
            text = f"{CHUNK_TYPE} {chunk.id!r}: index {chunk.index} is out of turn"
            raise ProtocolError("invalid_message", text)
        if self._size > max_size:
            self._refuse()
            text = f"a message of more than {max_size} bytes is refused"
            raise ProtocolError("message_too_big", text)
        self._texts.append(chunk.data)
        return "".join(self._texts) if chunk.last else None

    def _refuse(self) -> None:
        self._refused = True
        self._texts.clear()


def _is_chunk(message: str) -> bool:
    try:
        return _decode_type(message).type == CHUNK_TYPE
    except (msgspec.DecodeError, RecursionError):
        return False
