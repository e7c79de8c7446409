"""How much peers may ask for, and how long they may keep silent."""

from __future__ import annotations

import time

from msgspec import Struct

__all__ = ["OfferRate", "PeerLimits"]


class PeerLimits(Struct, frozen=True):
    """Bounds on one peer; times in seconds.

    Attributes:
        channels: Open at the same time.
        connect_timeout: To connect, and then to open a channel whenever there is none.
        gather_timeout: For STUN and TURN servers to answer, for each offer.
        heartbeat: Silence after which a peer is asked for a sign of life.
        dead_after: Silence after which it is gone. The slots of its requests are free 15 s after
            its last packet.
        idle_timeout: Without any message, though alive.
        close_timeout: To tell a peer that it is over.
    """

    channels: int = 4
    connect_timeout: float = 10.0
    gather_timeout: int = 1
    heartbeat: float = 5.0
    dead_after: float = 12.0
    idle_timeout: float = 300.0
    close_timeout: float = 2.0


class OfferRate:
    """A token bucket: so many offers at once, so many a second in the long run."""

    def __init__(self, burst: int = 40, per_second: float = 20.0) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._at = time.monotonic()

    def wait_for_next(self) -> float:
        """Take one; returns 0, or the seconds until there is one when there is none now."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0
