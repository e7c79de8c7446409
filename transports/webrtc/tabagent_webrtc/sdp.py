"""Judges the offers of peers and takes out what must not reach the WebRTC stack."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING, Final

from tabagent.core.errors import ProtocolError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_OFFER_SIZE", "SMALLEST_MESSAGE_LIMIT", "is_usable_candidate", "read_offer"]

MAX_OFFER_SIZE: Final = 16 * 1024
"""Bytes of one offer."""

SMALLEST_MESSAGE_LIMIT: Final = 16 * 1024
"""Bytes of one message that every peer must take; larger ones go in chunks of this size."""

MAX_AUDIO: Final = 3
MAX_CANDIDATES: Final = 64


def read_offer(data: bytes) -> str:
    """Return an offer without the candidates that cannot be used.

    Names that end in `.local` would have to be asked for over multicast DNS, which takes a second
    and fails often; a peer behind one is found by its own checks. Without them a list of
    candidates is not complete, so it is never said to end.

    :raises ProtocolError: `message_too_big`; `invalid_message` for what is no offer of a data
        channel.
    :raises RequestError: `not_supported` for media other than audio, which is answered inactive.
    """
    if len(data) > MAX_OFFER_SIZE:
        raise ProtocolError("message_too_big", f"an offer has at most {MAX_OFFER_SIZE} bytes")
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise ProtocolError("invalid_message", "the offer is no UTF-8 text") from None
    if not lines or lines[0].strip() != "v=0":
        raise ProtocolError("invalid_message", "this is no session description (SDP)")
    _check_media(line[2:] for line in lines if line.startswith("m="))
    _check_message_limit(lines)
    kept = [line for line in lines if _is_kept(line)]
    if sum(line.startswith("a=candidate:") for line in kept) > MAX_CANDIDATES:
        raise ProtocolError("invalid_message", f"an offer has at most {MAX_CANDIDATES} candidates")
    return "\r\n".join(kept) + "\r\n"


def is_usable_candidate(candidate: str) -> bool:
    """Whether a candidate (`candidate:…`, as in SDP) is UDP at an address."""
    fields = candidate.split()
    if len(fields) < 8 or fields[2].lower() != "udp":
        return False
    try:
        ipaddress.ip_address(fields[4])
    except ValueError:
        return False
    return True


def _check_media(sections: Iterable[str]) -> None:
    kinds = Counter(section.split(" ", 1)[0] for section in sections)
    for kind in kinds:
        if kind not in ("application", "audio"):
            raise RequestError("not_supported", f"{kind[:40]} is not supported, data channels are")
    if kinds["application"] != 1:
        text = "an offer has one data channel section: create a channel before the offer"
        raise ProtocolError("invalid_message", text)
    if kinds["audio"] > MAX_AUDIO:
        raise ProtocolError("invalid_message", f"an offer has at most {MAX_AUDIO} audio sections")


def _check_message_limit(lines: list[str]) -> None:
    for line in lines:
        name, _, value = line.partition(":")
        if name != "a=max-message-size":
            continue
        limit = int(value) if value.strip().isdecimal() else -1
        if limit != 0 and limit < SMALLEST_MESSAGE_LIMIT:  # 0 is no limit
            text = f"a peer takes messages of {SMALLEST_MESSAGE_LIMIT} bytes at least"
            raise ProtocolError("invalid_message", text)


def _is_kept(line: str) -> bool:
    if line.startswith("a=candidate:"):
        return is_usable_candidate(line[2:])
    return line != "a=end-of-candidates"
