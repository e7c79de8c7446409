"""Every route of the running server, every kind of caller, over HTTP and as an upgrade."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct
from tabagent.app import Application
from tabagent.config import Config, Paths

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "the-token-of-this-server"
EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
OTHER_EXTENSION = "chrome-extension://ponmlkjihgfedcbaponmlkjihgfedcba"
ACCESS_CODES = {"host_not_allowed", "token_required", "origin_not_allowed", "scope_required"}

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


# Of a peer that never comes; nobody has to be there for an answer.
OFFER = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=fingerprint:sha-256 FINGERPRINT
a=setup:actpass
a=mid:0
a=sctp-port:5000
""".replace("FINGERPRINT", ":".join(["AA"] * 32))


class Door(Struct, frozen=True):
    """A route: how it is called, the status behind it, and what it needs."""

    method: str
    path: str
    status: int
    body: dict[str, Any] | str | None = None
    upgrade: bool = False
    infer: bool = False
    manage: bool = False
    public: bool = False

    def __str__(self) -> str:
        return f"{'UPGRADE' if self.upgrade else self.method} {self.path}"


DOORS = [
    Door("GET", "/", 200, public=True),
    Door("GET", "/health", 200, public=True),
    Door("GET", "/metrics", 200),
    Door("GET", "/openapi.json", 200),
    Door("GET", "/v1/models", 200),
    Door("GET", "/v1/models/demo", 200),
    Door("GET", "/v1/system", 200),
    Door("GET", "/nowhere", 404),
    Door(
        "POST",
        "/v1/chat/completions",
        200,
        {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1},
    ),
    Door("POST", "/v1/completions", 200, {"prompt": "hello", "max_tokens": 1}),
    Door("POST", "/v1/responses", 200, {"input": "hello"}),
    Door("POST", "/v1/embeddings", 501, {}),
    Door("POST", "/v1/rerank", 501, {}),
    Door("GET", "/v1/realtime/calls", 200, infer=True),
    Door("POST", "/v1/realtime/calls", 201, OFFER),
    Door("DELETE", "/v1/realtime/calls/rtc_1", 404),
    Door("POST", "/v1/realtime/calls/rtc_1/hangup", 404),
    Door("POST", "/v1/realtime/client_secrets", 200, {}),
    Door("POST", "/v1/models/load", 200, {"model": "demo"}, manage=True),
    Door("POST", "/v1/models/unload", 200, {"model": "spare"}, manage=True),
    Door("POST", "/v1/models/pull", 400, {"model": "demo"}, manage=True),
    Door("DELETE", "/v1/models/absent", 404, manage=True),
    Door("GET", "/v1/origins", 200, manage=True),
    Door("POST", "/v1/origins/approve", 200, {"origin": "https://new.test"}, manage=True),
    Door("POST", "/v1/origins/revoke", 400, {"origin": "https://never.test"}, manage=True),
    Door("GET", "/v1/responses", 101, upgrade=True),
    Door("GET", "/v1/extension", 101, upgrade=True),
    Door("GET", "/v1/realtime", 101, upgrade=True),
    Door("GET", "/v1/realtime?model=demo", 101, upgrade=True),
    Door("GET", "/v1/realtime?call_id=c", 501, upgrade=True),
    Door("GET", "/v1/realtime/calls", 101, upgrade=True),
]

HOST_REFUSED, NO_TOKEN, ORIGIN_REFUSED = (
    (421, "host_not_allowed"),
    (401, "token_required"),
    (403, "origin_not_allowed"),
)


class Caller(Struct, frozen=True):
    """Who calls: the headers shown, and how an open and a strict server take it.

    `None` means let in, with every scope unless `infer_only`.
    """

    name: str
    headers: dict[str, str]
    open: tuple[int, str] | None = None
    strict: tuple[int, str] | None = NO_TOKEN
    infer_only: bool = False
    reads_only: bool = False

    def __str__(self) -> str:
        return self.name


BEARER = {"Authorization": f"Bearer {TOKEN}"}

CALLERS = [
    Caller("local software", {}),
    Caller("an SDK with some key", {"Authorization": "Bearer sk-any"}),
    Caller("another port", {"Host": "127.0.0.1:1"}),
    Caller("localhost", {"Host": "localhost"}),
    Caller("IPv6", {"Host": "[::1]:8484"}),
    Caller("an allowed host", {"Host": "box.lan:8484"}),
    Caller("the token", BEARER, strict=None),
    Caller("the token, evil origin", BEARER | {"Origin": "https://evil.test"}, strict=None),
    Caller("the token, evil host", BEARER | {"Host": "evil.test"}, HOST_REFUSED, HOST_REFUSED),
    Caller("evil host", {"Host": "evil.test"}, HOST_REFUSED, HOST_REFUSED),
    Caller(
        "a rebound page",
        {"Host": "evil.test:8484", "Origin": "http://evil.test:8484"},
        HOST_REFUSED,
        HOST_REFUSED,
    ),
    Caller("another address", {"Host": "192.168.1.7"}, HOST_REFUSED, HOST_REFUSED),
    Caller("no host", {"Host": ""}, HOST_REFUSED, HOST_REFUSED),
    Caller("evil origin", {"Origin": "https://evil.test"}, ORIGIN_REFUSED),
    Caller("null origin", {"Origin": "null"}, ORIGIN_REFUSED),
    Caller("another local server", {"Origin": "http://127.0.0.1:3000"}, ORIGIN_REFUSED),
    Caller("another extension", {"Origin": OTHER_EXTENSION}, ORIGIN_REFUSED),
    Caller(
        "evil origin, some key",
        {"Origin": "https://evil.test", "Authorization": "Bearer sk-any"},
        ORIGIN_REFUSED,
    ),
    Caller(
        "our own page",
        {
            "Host": "127.0.0.1:8484",
            "Origin": "http://127.0.0.1:8484",
            "Sec-Fetch-Site": "same-origin",
        },
    ),
    Caller("our own page's GET", {"Sec-Fetch-Site": "same-origin"}),
    Caller(
        "an approved extension",
        {"Origin": EXTENSION, "Sec-Fetch-Site": "cross-site"},
        infer_only=True,
    ),
    Caller("a link elsewhere", {"Sec-Fetch-Site": "cross-site"}, ORIGIN_REFUSED),
    Caller("a sibling site", {"Sec-Fetch-Site": "same-site"}, ORIGIN_REFUSED),
    Caller("an extension's GET", {"Sec-Fetch-Site": "none"}, reads_only=True),
]


@contextmanager
def running(config: Config, paths: Paths) -> Iterator[int]:
    """Run a server in a thread; gives the port."""
    application = Application(config, paths)
    sockets = application.listen()
    ready = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(application.run(sockets, lambda _: ready.set()))
    )
    thread.start()
    assert ready.wait(20)
    yield sockets[0].getsockname()[1]
    application.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """An open server and one that requires its token."""
    homes = [str(tmp_path_factory.mktemp("home")) for _ in range(2)]
    open_paths, strict_paths = (Paths.locate({"TABAGENT_HOME": home}) for home in homes)
    settings: dict[str, Any] = {
        "model": ("demo=echo:demo", "spare=echo:spare"),
        "port": 0,
        "token": TOKEN,
        "allow_origin": (EXTENSION,),
        "allow_host": ("box.lan",),
        "max_peers": 1000,
    }
    strict = Config(**settings, require_token=True)
    with (
        running(Config(**settings), open_paths) as opened,
        running(strict, strict_paths) as closed,
    ):
        yield {"open": opened, "strict": closed}


class Answer(Struct):
    status: int
    headers: dict[str, str]
    code: str | None


def call(port: int, door: Door, headers: dict[str, str]) -> Answer:
    """Call a route with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(door.method, door.path, skip_host=True, skip_accept_encoding=True)
    is_sdp = isinstance(door.body, str)
    text = door.body if isinstance(door.body, str) else json.dumps(door.body)
    content = b"" if door.body is None else text.encode()
    shown = {"Host": f"127.0.0.1:{port}"} | (UPGRADE if door.upgrade else {}) | headers
    if door.body is not None:
        media_type = "application/sdp" if is_sdp else "application/json"
        shown |= {"Content-Type": media_type, "Content-Length": str(len(content))}
    for name, value in shown.items():
        connection.putheader(name, value)
    connection.endheaders(content)
    response = connection.getresponse()
    answer_headers = {name.lower(): value for name, value in response.getheaders()}
    body = b"" if response.status == 101 else response.read()
    connection.close()
    code = None
    if response.status >= 400:
        code = json.loads(body)["error"]["code"]
    return Answer(response.status, answer_headers, code)


def expected(door: Door, caller: Caller, kind: str) -> tuple[int, str] | int:
    """What the contract says of this caller at this door: a refusal, or the status behind it."""
    refusal = caller.open if kind == "open" else caller.strict
    if kind == "strict" and refusal == NO_TOKEN and door.public:
        refusal = caller.open
    if refusal is None and caller.reads_only and (door.method != "GET" or door.upgrade):
        refusal = ORIGIN_REFUSED
    if refusal is None and caller.reads_only and door.infer:
        refusal = (403, "scope_required")
    if refusal is None and (caller.infer_only or caller.reads_only) and door.manage:
        refusal = (403, "scope_required")
    return refusal or door.status


@pytest.mark.parametrize("kind", ["open", "strict"])
@pytest.mark.parametrize("caller", CALLERS, ids=str)
@pytest.mark.parametrize("door", DOORS, ids=str)
def test_every_door_takes_every_caller_as_the_contract_says(
    ports: dict[str, int], door: Door, caller: Caller, kind: str
) -> None:
    answer = call(ports[kind], door, caller.headers)
    wanted = expected(door, caller, kind)
    if isinstance(wanted, tuple):
        assert (answer.status, answer.code) == wanted
    else:
        assert answer.status == wanted
        assert answer.code not in ACCESS_CODES


@pytest.mark.parametrize("door", [door for door in DOORS if door.upgrade], ids=str)
@pytest.mark.parametrize("key", ["the-token-of-this-server", "wrong"])
def test_browser_code_hands_its_token_over_as_a_sub_protocol(
    ports: dict[str, int], door: Door, key: str
) -> None:
    offered = {"Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{key}"}
    answer = call(ports["strict"], door, offered)
    assert answer.status == (door.status if key == TOKEN else 401)
    if answer.status == 101:
        assert answer.headers["sec-websocket-protocol"] == "realtime"
    assert key not in str(answer.headers)


@pytest.mark.parametrize("door", [door for door in DOORS if not door.upgrade], ids=str)
def test_only_an_approved_origin_gets_cors_answers(ports: dict[str, int], door: Door) -> None:
    allowed = call(ports["open"], door, {"Origin": EXTENSION})
    assert allowed.headers["access-control-allow-origin"] == EXTENSION
    for origin in ("https://evil.test", "null", OTHER_EXTENSION):
        refused = call(ports["open"], door, {"Origin": origin})
        assert "access-control-allow-origin" not in refused.headers


def test_calls_log_no_token_and_no_error(
    ports: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        for door in DOORS:
            call(ports["strict"], door, BEARER)
    assert caplog.records
    assert TOKEN not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
