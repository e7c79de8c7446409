"""Who may call: one policy for every door, as a pure function of what the caller shows."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from .client_secrets import ClientSecrets
from .errors import AccessError
from .origins import is_extension
from .requests import LOCAL, Principal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .client_secrets import ClientSecret
    from .origins import OriginRegistry

__all__ = [
    "KEY_SUBPROTOCOL",
    "LOOPBACK_HOSTS",
    "READER",
    "SUBPROTOCOL",
    "AccessPolicy",
    "Caller",
    "parse_host",
    "parse_origin",
]

SUBPROTOCOL: Final = "realtime"
"""The sub-protocol that a WebSocket upgrade is answered with whenever it is offered."""

KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
"""Prefix of the sub-protocol in which browser code, which sets no headers, hands over a token."""

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

PAGE: Final = Principal("page", frozenset({"infer", "manage"}))
"""Our own page."""

TOKEN: Final = Principal("token", frozenset({"infer", "manage"}))
"""Whoever holds the server's token."""

READER: Final = Principal("reader", frozenset())
"""A caller without a name, such as an extension's `GET`: it sees read-only routes only."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Caller(Struct, frozen=True, kw_only=True):
    """What a caller shows before anything is accepted.

    Attributes:
        method: HTTP method; an upgrade is a `GET` with `upgrade` set.
        host: The `Host` header.
        origin: The `Origin` header.
        sec_fetch_site: The `Sec-Fetch-Site` header.
        token: Bearer token or sub-protocol key.
        scheme: `http` or `https`, as the caller's side sees it.
        upgrade: Whether this opens a duplex connection.
        read_only: Whether the route changes nothing and runs nothing.
        public: Whether the route tells nothing worth a token, such as the health check.
    """

    method: str
    host: str | None = None
    origin: str | None = None
    sec_fetch_site: str | None = None
    token: str | None = None
    scheme: str = "http"
    upgrade: bool = False
    read_only: bool = False
    public: bool = False

    @classmethod
    def from_headers(
        cls,
        method: str,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        scheme: str = "http",
        upgrade: bool = False,
        read_only: bool = False,
        public: bool = False,
    ) -> Caller:
        """Read the raw headers of a request, names in lower case.

        A second `Host` or `Origin` makes that header one that no policy accepts.
        """
        seen: dict[bytes, str] = {}
        for name, value in headers:
            if name in _HEADERS:
                text = value.decode("latin-1").strip()
                seen[name] = f"{seen[name]}, {text}" if name in seen else text
        return cls(
            method=method,
            host=seen.get(b"host"),
            origin=seen.get(b"origin"),
            sec_fetch_site=seen.get(b"sec-fetch-site"),
            token=_token(seen.get(b"authorization", ""), seen.get(b"sec-websocket-protocol", "")),
            scheme={"ws": "http", "wss": "https"}.get(scheme, scheme),
            upgrade=upgrade,
            read_only=read_only,
            public=public,
        )


_HEADERS = frozenset(
    {b"host", b"origin", b"sec-fetch-site", b"authorization", b"sec-websocket-protocol"}
)


class AccessPolicy:
    """Decides who a caller is.

    The rules, in order:

    1. `Host` is one of ours (port not compared), or nothing else is looked at: a web page whose
       name resolves to this machine shows its own name there.
    2. A valid token decides, and so does a client secret, which gives the scope `infer` until it
       expires. An unknown one counts as none.
    3. Where a token is required there is no other way in, but for `public` routes.
    4. Without an `Origin` the caller is local software, unless `Sec-Fetch-Site` shows a browser:
       `cross-site` and `same-site` are refused, `none` reaches read-only routes.
    5. With one: ours is allowed, `null` never, any other only when approved. An extension that is
       not is told a pairing code, under which its approval is pending.
    """

    def __init__(
        self,
        *,
        hosts: Iterable[str] = (),
        origins: Collection[str] = frozenset(),
        registry: OriginRegistry | None = None,
        token: str | None = None,
        require_token: bool = False,
        secrets: ClientSecrets | None = None,
    ) -> None:
        """Allow `hosts` beside the loopback names, `origins`, and those approved in `registry`.

        :raises ValueError: for a malformed host or origin, or a required token that is not given.
        """
        if require_token and not token:
            raise ValueError("a token is required, and none is given")
        self.require_token = require_token
        self._hosts = LOOPBACK_HOSTS | {parse_host(host) for host in hosts}
        self._origins = frozenset(parse_origin(origin) for origin in origins)
        self._registry = registry
        self._token = token.encode() if token else None
        self._secrets = secrets or ClientSecrets()

    def judge(self, caller: Caller) -> Principal:
        """Return the principal that `caller` is.

        :raises AccessError: `host_not_allowed`, `token_required` or `origin_not_allowed`.
        """
        self._check_host(caller.host)
        if self._holds_token(caller.token):
            return TOKEN
        if secret := self._secret_of(caller):
            return secret.principal
        if self.require_token and not caller.public:
            raise AccessError("token_required", "this server needs its token")
        if caller.origin is None:
            return self._judge_without_origin(caller)
        if caller.origin == f"{caller.scheme}://{caller.host}".lower():
            return READER if self.require_token else PAGE
        if self.allows_origin(caller.origin):
            return Principal(caller.origin)
        raise self._refusal(caller.origin)

    def issue_secret(
        self, issuer: Principal, seconds: float, session: Mapping[str, Any] | None = None
    ) -> ClientSecret:
        """Make a client secret that holds for `seconds`.

        :raises TabagentError: see `ClientSecrets.issue`.
        """
        origin = issuer.id if self.allows_origin(issuer.id) else None
        return self._secrets.issue(issuer, seconds, origin=origin, session=session)

    def session_of(self, caller: Caller) -> Mapping[str, Any]:
        """Return the session that the caller's client secret was made for, if it shows one."""
        secret = self._secret_of(caller)
        return secret.session if secret else {}

    def judge_native(self, extension: str | None) -> Principal:
        """Return the principal behind a native port: an extension, or local software.

        The system has seen to it that it is our user, and the native host that the user has
        installed this extension. It is the same principal on every other door.
        """
        if extension is None:
            return LOCAL
        return Principal(extension.removesuffix("/"), frozenset({"infer", "manage"}))

    def allows_origin(self, origin: str) -> bool:
        """Whether answers to `origin` may carry CORS headers that name it."""
        return origin in self._origins or (
            self._registry is not None and self._registry.is_approved(origin)
        )

    def _refusal(self, origin: str) -> AccessError:
        text = f"the origin {_shown(origin)} has not been approved"
        if self._registry is None or not is_extension(origin):
            return AccessError("origin_not_allowed", text)
        code = self._registry.ask(origin)
        how = f"its pairing code is {code}; `tabagent origins approve {code}` lets it in"
        return AccessError("origin_not_allowed", f"{text}; {how}", pairing_code=code)

    def _check_host(self, host: str | None) -> None:
        match = _HOST.fullmatch((host or "").lower())
        if match is None or match[1] not in self._hosts:
            raise AccessError(
                "host_not_allowed",
                f"the host {_shown(host)} is not one of this server's; --allow-host adds one",
            )

    def _holds_token(self, token: str | None) -> bool:
        if token is None or self._token is None:
            return False
        return hmac.compare_digest(token.encode(), self._token)

    def _secret_of(self, caller: Caller) -> ClientSecret | None:
        secret = self._secrets.find(caller.token) if caller.token else None
        if secret and secret.origin and not self.allows_origin(secret.origin):
            return None
        return secret

    def _judge_without_origin(self, caller: Caller) -> Principal:
        site = caller.sec_fetch_site
        if site is None:
            return READER if self.require_token else LOCAL
        if site == "same-origin" and not self.require_token:
            return PAGE
        if site in ("none", "same-origin") and caller.read_only and not caller.upgrade:
            return READER
        raise AccessError("origin_not_allowed", f"a browser's {_shown(site)} request is refused")


def parse_host(text: str) -> str:
    """Return a host name or address as a `Host` header shows it, without a port.

    :raises ValueError: when it is neither.
    """
    host = text.strip().lower()
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    match = _HOST.fullmatch(host)
    if match is None:
        raise ValueError(f"{text!r} is no host name or address")
    return match[1]


def parse_origin(text: str) -> str:
    """Return an origin as browsers send it: lower case, no default port, no path.

    :raises ValueError: for a pattern, for `null`, and for what is no origin.
    """
    match = _ORIGIN.fullmatch(text.strip().lower().removesuffix("/"))
    if match is None:
        raise ValueError(
            f"{text!r} is no origin (as in chrome-extension://ID, https://example.org)"
        )
    scheme, host, port = match.groups()
    if port in (None, _DEFAULT_PORTS.get(scheme)):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def _token(authorization: str, subprotocols: str) -> str | None:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    for offered in subprotocols.split(","):
        name = offered.strip()
        if name.startswith(KEY_SUBPROTOCOL) and len(name) > len(KEY_SUBPROTOCOL):
            return name.removeprefix(KEY_SUBPROTOCOL)
    return None


def _shown(header: str | None) -> str:
    return repr(header[:100]) if header else "(none)"
