"""Every built-in transport conforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tabagent.testing import TransportConformance, TransportPair, loopback_pair

from tests.transports.websocket_pair import websocket_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TestTransports(TransportConformance):
    @pytest.fixture(params=["loopback", "ws"])
    async def pair(self, request: pytest.FixtureRequest) -> AsyncIterator[TransportPair]:
        if request.param == "loopback":
            local, peer = loopback_pair()
            yield TransportPair(local, peer, peer.send_bytes)
        else:
            async with websocket_pair() as pair:
                yield pair
