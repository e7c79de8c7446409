"""Every built-in transport conforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tabagent.testing import TransportConformance, TransportPair, loopback_pair

from tests.transports.native.ports import native_pair
from tests.transports.webrtc.peers import webrtc_pair
from tests.transports.websocket_pair import websocket_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class TestTransports(TransportConformance):
    @pytest.fixture(params=["loopback", "native", "webrtc", "ws"])
    async def pair(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> AsyncIterator[TransportPair]:
        if request.param == "loopback":
            local, peer = loopback_pair()
            yield TransportPair(local, peer, peer.send_bytes)
        elif request.param == "native":
            async with native_pair(tmp_path / "home") as pair:
                yield pair
        elif request.param == "webrtc":
            async with webrtc_pair() as pair:
                yield pair
        else:
            async with websocket_pair() as pair:
                yield pair
