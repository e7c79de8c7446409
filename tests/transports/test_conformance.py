"""Every built-in transport conforms."""

from __future__ import annotations

import pytest
from tabagent.testing import TransportConformance, TransportPair, loopback_pair


class TestTransports(TransportConformance):
    @pytest.fixture(params=["loopback"])
    def pair(self, request: pytest.FixtureRequest) -> TransportPair:
        local, peer = loopback_pair()
        return TransportPair(local, peer, peer.send_bytes)
