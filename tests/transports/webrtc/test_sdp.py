"""What of an offer reaches the WebRTC stack, and which offers do not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import TabagentError
from tabagent_webrtc.sdp import MAX_OFFER_SIZE, read_offer

DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
UDP = "a=candidate:1 1 udp 2113937151 192.0.2.7 50000 typ host"


def offer(*lines: str) -> bytes:
    return "\r\n".join(["v=0", "s=-", *lines, ""]).encode()


@pytest.mark.parametrize(
    "line",
    [
        "a=candidate:1 1 udp 2113937151 1b2c.local 50000 typ host",
        "a=candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "a=candidate:1 1 udp 2113937151 example.org 50000 typ host",
        "a=candidate:1 1 udp",
        "a=end-of-candidates",
    ],
)
def test_what_cannot_be_used_is_taken_out(line: str) -> None:
    kept = read_offer(offer(DATA, line, UDP, "a=mid:0"))
    assert kept.split("\r\n") == ["v=0", "s=-", DATA, UDP, "a=mid:0", ""]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_message"),
        (b"{}", "invalid_message"),
        (b"v=0\r\ns=\xff\r\n", "invalid_message"),
        (offer(), "invalid_message"),
        (offer("m=audio 9 UDP/TLS/RTP/SAVPF 111"), "invalid_message"),
        (offer(DATA, DATA), "invalid_message"),
        (offer(*["m=audio 9 UDP/TLS/RTP/SAVPF 111"] * 4, DATA), "invalid_message"),
        (offer(DATA, *[UDP] * 65), "invalid_message"),
        (offer(DATA, "a=max-message-size:16383"), "invalid_message"),
        (offer(DATA, "a=max-message-size:-1"), "invalid_message"),
        (offer(DATA, "m=video 9 UDP/TLS/RTP/SAVPF 96"), "not_supported"),
        (offer(DATA, "a=" + "x" * MAX_OFFER_SIZE), "message_too_big"),
    ],
)
def test_an_offer_that_cannot_be_answered_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(TabagentError) as caught:
        read_offer(body)
    assert caught.value.code == code


@pytest.mark.parametrize("limit", ["0", "16384", "262144"])
def test_a_peer_that_takes_enough_at_once_is_fine(limit: str) -> None:
    assert f"a=max-message-size:{limit}" in read_offer(offer(DATA, f"a=max-message-size:{limit}"))


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: b"v=0\n" + text.encode()))
def test_any_bytes_are_an_offer_or_an_error_with_a_code(body: bytes) -> None:
    with suppress(TabagentError):
        assert read_offer(body).startswith("v=0\r\n")
