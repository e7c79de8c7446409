"""Reads what comes in pieces, such as the body of a request, up to a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

__all__ = ["join_body"]


async def join_body(pieces: AsyncIterable[bytes], max_size: int) -> bytes:
    """Return the pieces of a body of at most `max_size` bytes as one.

    :raises ProtocolError: `message_too_big`, as soon as it is.
    """
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > max_size:
            raise ProtocolError("message_too_big", f"a body has at most {max_size} bytes")
    return bytes(body)
