"""STUN and TURN servers: how they are written in settings, and how peers get to know them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final, Literal, TypeAlias

from msgspec import Struct

__all__ = ["IceConfig", "IceServer", "TransportPolicy", "parse_ice_server"]

TransportPolicy: TypeAlias = Literal["all", "relay"]

CREDENTIAL_LIFETIME: Final = 3600
"""Seconds in which a TURN credential opens an allocation; one that is open lasts longer."""

_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:(?P<username>[^:@\s]+):(?P<credential>[^@\s]+)@)?"
    r"(?P<host>(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?)"
    r"(?P<transport>\?transport=(?:udp|tcp))?"
)


class IceServer(Struct, frozen=True, omit_defaults=True):
    """One server, in the fields of the browsers' `RTCIceServer`."""

    urls: str
    username: str | None = None
    credential: str | None = None


class IceConfig(Struct, frozen=True):
    """How peers find each other across networks.

    Attributes:
        servers: In the order of preference; none where peers reach this machine directly.
        transport_policy: `relay` lets nothing but TURN carry data, on both sides.
        turn_secret: Shared with the TURN servers, which then take short-lived credentials
            (coturn's `static-auth-secret`).
    """

    servers: tuple[IceServer, ...] = ()
    transport_policy: TransportPolicy = "all"
    turn_secret: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        :raises ValueError: for a TURN server without credentials, or a relay policy without TURN.
        """
        turn = [server for server in self.servers if server.urls.startswith("turn")]
        if self.transport_policy == "relay" and not turn:
            raise ValueError("the relay policy needs a TURN server")
        for server in turn:
            if server.username is None and self.turn_secret is None:
                raise ValueError(f"{server.urls} needs a user and credential, or a TURN secret")

    def servers_for(self, user: str, now: float) -> list[IceServer]:
        """Return the servers with the credentials that `user` may use from the time `now` on."""
        return [
            self._with_credential(server, user, now)
            if server.urls.startswith("turn") and server.username is None
            else server
            for server in self.servers
        ]

    def _with_credential(self, server: IceServer, user: str, now: float) -> IceServer:
        assert self.turn_secret is not None
        # TURN servers log the name and count by it; who the caller is, they need not learn.
        name = hashlib.sha256(user.encode()).hexdigest()[:16]
        username = f"{int(now) + CREDENTIAL_LIFETIME}:{name}"
        # SHA-1 is what coturn's protocol for this has; an HMAC with it is sound.
        digest = hmac.digest(self.turn_secret.encode(), username.encode(), "sha1")
        return IceServer(server.urls, username, base64.b64encode(digest).decode())


def parse_ice_server(text: str) -> IceServer:
    """Return the server that `stun:HOST`, `turn:HOST` or `turn:USER:CREDENTIAL@HOST` names.

    A port and, for TURN, `?transport=udp` or `tcp` may follow the host.

    :raises ValueError: for anything else; it does not repeat the text, which may hold a secret.
    """
    match = _URL.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected stun:HOST[:PORT] or turn:[USER:CREDENTIAL@]HOST[:PORT]")
    scheme, username, credential, host, transport = match.groups()
    if scheme.startswith("stun") and (username or transport):
        raise ValueError("a STUN server has neither credential nor transport")
    return IceServer(f"{scheme}:{host}{transport or ''}", username, credential)
