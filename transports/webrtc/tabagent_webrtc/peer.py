"""One peer: its connection, from the answer to its offer to its end, and its channels."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.sdp import candidate_from_sdp
from tabagent.core.errors import ProtocolError, RequestError, TabagentError, TransportClosed
from tabagent.protocols.wire import encode, error_object, new_id

from .association import Association
from .channel import CHUNKED_LABEL, DataChannelTransport, ErrorEvent
from .sdp import is_usable_candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiortc import RTCDataChannel, RTCDtlsTransport
    from tabagent.core.ice import IceServer, TransportPolicy
    from tabagent.core.requests import Principal
    from tabagent.core.transport import ListenerContext

    from .limits import PeerLimits

__all__ = ["Peer"]

log = logging.getLogger("tabagent.webrtc")

REALTIME_LABEL: Final = "oai-events"

PROTOCOLS: Final = {CHUNKED_LABEL: "responses", REALTIME_LABEL: "realtime"}
"""What a channel speaks, by its label."""


class Peer:
    """A browser or a program at the other end of a WebRTC connection.

    Attributes:
        id: Names the call; nobody can guess it.
        principal: Whose call it is.
    """

    def __init__(
        self,
        context: ListenerContext,
        limits: PeerLimits,
        principal: Principal,
        opening: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare for an offer; with `opening` each `oai-events` channel begins."""
        self.id = new_id("rtc_")
        self.principal = principal
        self._context = context
        self._limits = limits
        self._opening = opening
        self._open: set[DataChannelTransport] = set()
        self._arrivals: asyncio.Queue[tuple[DataChannelTransport, str]] = asyncio.Queue()
        self._changed_at = time.monotonic()
        self._connected = anyio.Event()
        self._ended = anyio.Event()
        self._association: Association
        servers = context.ice.servers_for(principal.id, time.time())
        self._pc = RTCPeerConnection(_configuration(servers, context.ice.transport_policy))
        self._pc.on("datachannel", self._take_channel)
        self._pc.on("connectionstatechange", self._note_state)

    async def answer(self, offer: str) -> str:
        """Return the answer, with all candidates, to an offer that `read_offer` has passed.

        :raises ProtocolError: `invalid_message` when the offer cannot be understood.
        :raises RequestError: `not_supported` where no network reaches this machine.
        """
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            assert self._pc.sctp is not None
        except Exception as error:  # the parser trusts its input: any may come
            log.debug("an offer was refused", exc_info=True)
            text = f"the offer cannot be used: {error or type(error).__name__}"
            raise ProtocolError("invalid_message", text) from None
        self._association = Association(self._pc.sctp)
        self._hasten(self._pc.sctp.transport)
        for transceiver in self._pc.getTransceivers():
            transceiver.direction = "inactive"  # stock clients offer a microphone
            self._hasten(transceiver.receiver.transport)
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        answer = self._pc.localDescription.sdp
        if "a=candidate:" not in answer:
            text = "this machine has no network address that WebRTC can use"
            raise RequestError("not_supported", text)
        return answer

    async def add_candidate(
        self, candidate: str, mid: str | None = None, index: int | None = None
    ) -> None:
        """Take a candidate that became known after the offer; one of no use is passed over.

        :raises ProtocolError: `invalid_message`.
        """
        text = candidate.strip().removeprefix("a=")
        if not is_usable_candidate(text):
            return
        try:
            found = candidate_from_sdp(text.removeprefix("candidate:"))
            found.sdpMid = mid
            found.sdpMLineIndex = 0 if mid is None and index is None else index
            await self._pc.addIceCandidate(found)
        except (ValueError, AssertionError, InvalidStateError) as error:
            raise ProtocolError("invalid_message", f"the candidate is refused: {error}") from None

    async def run(self) -> None:
        """Serve the channels until the peer is gone, idle or hung up on; close then."""
        try:
            async with anyio.create_task_group() as channels:
                channels.start_soon(self._watch, channels.cancel_scope)
                while True:
                    transport, protocol = await self._arrivals.get()
                    channels.start_soon(self._serve, transport, protocol)
        finally:
            await self.close()

    @property
    def ended(self) -> bool:
        """Whether `run` ends soon."""
        return self._ended.is_set()

    def hang_up(self) -> None:
        """End `run` soon."""
        self._ended.set()
        self._connected.set()

    async def close(self) -> None:
        """Tell the peer that it is over, and let go of its sockets."""
        with anyio.move_on_after(self._limits.close_timeout, shield=True):
            await self._pc.close()

    async def _watch(self, channels: anyio.CancelScope) -> None:
        """Cancel `channels` once the peer has not come, has gone, or is no longer of use."""
        with anyio.move_on_after(self._limits.connect_timeout):
            await self._connected.wait()
        if not self._connected.is_set():
            log.info("a peer did not connect in time")
        while self._connected.is_set() and not self._ended.is_set():
            silent = time.monotonic() - self._association.heard_at
            if reason := self._reason_to_end(silent):
                log.info("a peer %s", reason)
                if silent >= self._limits.dead_after:
                    await self._association.abort()  # nobody is there to close channels with
                break
            if silent >= self._limits.heartbeat:
                await self._association.heartbeat()
            left = self._limits.dead_after - silent
            with anyio.move_on_after(min(self._limits.heartbeat, left)):
                await self._ended.wait()
        channels.cancel()

    def _reason_to_end(self, silent: float) -> str | None:
        if silent >= self._limits.dead_after:
            return "gave no sign of life"
        used_at = max([self._changed_at, *(transport.used_at for transport in self._open)])
        allowed = self._limits.idle_timeout if self._open else self._limits.connect_timeout
        return "was idle for too long" if time.monotonic() - used_at >= allowed else None

    async def _serve(self, transport: DataChannelTransport, protocol: str) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                if protocol == "responses":
                    tasks.start_soon(transport.keep_alive, self._context.ping_interval)
                await self._handle(transport, protocol)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()
            self._open.discard(transport)
            self._changed_at = time.monotonic()

    async def _handle(self, transport: DataChannelTransport, protocol: str) -> None:
        try:
            await self._context.handle(transport, protocol, self.principal)
        except TabagentError as error:
            transport.refuse(error)
        except TransportClosed:
            pass
        except Exception:
            log.exception("a data channel failed")
        else:
            if not transport.left_by_peer:
                # The server ended it, because it stops or the principal may no longer call.
                self.hang_up()

    def _take_channel(self, channel: RTCDataChannel) -> None:
        try:
            protocol = self._judge(channel)
        except TabagentError as error:
            channel.send(encode(ErrorEvent(error_object(error))))
            channel.close()
            return
        opening = self._opening if channel.label == REALTIME_LABEL else None
        size = self._context.max_message_size
        transport = DataChannelTransport(channel, self._association, size, opening)
        self._open.add(transport)
        self._arrivals.put_nowait((transport, protocol))

    def _judge(self, channel: RTCDataChannel) -> str:
        if channel.label not in PROTOCOLS:
            text = f"a channel is labelled {' or '.join(PROTOCOLS)}, not {channel.label[:40]!r}"
            raise RequestError("invalid_parameter", text, param="label")
        reliable = channel.maxRetransmits is None and channel.maxPacketLifeTime is None
        if not (reliable and channel.ordered):
            text = "a channel is ordered and reliable"
            raise RequestError("invalid_parameter", text, param="ordered")
        if len(self._open) >= self._limits.channels:
            text = f"a peer has at most {self._limits.channels} channels"
            raise RequestError("overloaded", text)
        return PROTOCOLS[channel.label]

    def _hasten(self, dtls: RTCDtlsTransport) -> None:
        """Let gathering wait no longer than our limit, instead of 5 s, for who does not answer."""
        ice = dtls.transport._connection
        ice.get_component_candidates = partial(  # type: ignore[method-assign]
            type(ice).get_component_candidates, ice, timeout=self._limits.gather_timeout
        )

    def _note_state(self) -> None:
        state = self._pc.connectionState
        if state == "connected":
            self._association.go_direct()
            self._changed_at = self._association.heard_at = time.monotonic()
            self._connected.set()
        elif state in ("failed", "closed"):
            self.hang_up()


def _configuration(servers: list[IceServer], policy: TransportPolicy) -> RTCConfiguration:
    # An empty list, not None: that would ask a public STUN server.
    return RTCConfiguration(
        iceServers=[
            RTCIceServer(server.urls, server.username, server.credential) for server in servers
        ],
        iceTransportPolicy=RTCIceTransportPolicy(policy),
    )
