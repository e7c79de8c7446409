"""Answers offers and holds the peers."""

from __future__ import annotations

import logging
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
from anyio import to_thread
from msgspec import Struct
from tabagent.core.errors import RequestError
from tabagent.core.transport import Listener

from .limits import OfferRate, PeerLimits
from .sdp import read_offer
from .signalling import Signalling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import TaskGroup
    from tabagent.core.ice import IceServer
    from tabagent.core.requests import Principal
    from tabagent.core.transport import ListenerContext

    from .peer import Peer

__all__ = ["Call", "WebRTCListener"]

log = logging.getLogger("tabagent.webrtc")


class Call(Struct, frozen=True):
    """An answered offer."""

    id: str
    sdp: str


class WebRTCListener(Listener):
    """Answers the offers of callers that have been let in, one peer each."""

    name: ClassVar[str] = "webrtc"
    limits: ClassVar[PeerLimits] = PeerLimits()

    def __init__(self, context: ListenerContext) -> None:
        super().__init__(context)
        self._peers: dict[str, Peer] = {}
        self._answering = 0
        self._offers = OfferRate()
        self._tasks: TaskGroup | None = None

    def routes(self) -> Sequence[Any]:
        """Return the routes on which offers come."""
        return Signalling(self).routes()

    async def serve(self) -> None:
        """Hold the peers until cancelled; then hang up on all of them."""
        async with anyio.create_task_group() as self._tasks:
            await anyio.sleep_forever()

    async def answer(
        self, offer: bytes, principal: Principal, opening: Mapping[str, Any] | None = None
    ) -> Call:
        """Start a call; `opening` is the session that its realtime channels begin with.

        :raises RequestError: `overloaded` when there are too many peers or offers,
            `not_supported` where WebRTC does not work, `shutting_down`.
        :raises ProtocolError: for an offer that cannot be used.
        """
        principal.require("infer")
        checked = read_offer(offer)
        self._admit()
        self._answering += 1
        try:
            peer_type = await self._peer_type()
            peer = peer_type(self.context, self.limits, principal, opening)
            try:
                call = Call(peer.id, await peer.answer(checked))
                self._running().start_soon(self._run, peer)
            except BaseException:
                await peer.close()
                raise
            self._peers[peer.id] = peer
            return call
        finally:
            self._answering -= 1

    def find(self, call_id: str, principal: Principal) -> Peer | None:
        """Return the peer of a call of this principal that has not been hung up."""
        peer = self._peers.get(call_id)
        if peer is None or peer.ended or peer.principal != principal:
            return None
        return peer

    def ice_servers(self, principal: Principal) -> list[IceServer]:
        """Return the servers that a peer of this principal may use."""
        return self.context.ice.servers_for(principal.id, time.time())

    def _running(self) -> TaskGroup:
        if self._tasks is None or self._tasks.cancel_scope.cancel_called:
            raise RequestError("shutting_down", "the server takes no calls now")
        return self._tasks

    def _admit(self) -> None:
        self._running()
        if len(self._peers) + self._answering >= self.context.max_peers:
            text = f"there are {self.context.max_peers} peers, which is the limit"
            raise RequestError("overloaded", text, retry_after=5.0)
        if wait := self._offers.wait_for_next():
            raise RequestError("overloaded", "too many offers at once", retry_after=wait)

    async def _peer_type(self) -> type[Peer]:
        """Import the WebRTC stack at the first offer, beside the loop: it takes 0.2 s."""
        module = f"{__package__}.peer"
        try:
            peer = await to_thread.run_sync(partial(import_module, module))
        except ImportError as error:
            log.exception("the WebRTC stack cannot be imported")
            text = f"WebRTC does not work on this machine: {error}"
            raise RequestError("not_supported", text) from None
        found: type[Peer] = peer.Peer
        return found

    async def _run(self, peer: Peer) -> None:
        try:
            await peer.run()
        finally:
            self._peers.pop(peer.id, None)
