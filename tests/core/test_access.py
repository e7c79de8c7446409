"""The contract's "Who may call", as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.access import AccessPolicy, Caller, parse_host, parse_origin
from tabagent.core.errors import AccessError
from tabagent.core.requests import Principal

TOKEN = "t0ken-of-this-server"
EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
OTHER_EXTENSION = "chrome-extension://ponmlkjihgfedcbaponmlkjihgfedcba"
SITE = "https://app.example.org"
HOST = "127.0.0.1:8484"

POLICY = AccessPolicy(origins=[EXTENSION, SITE], token=TOKEN)
STRICT = AccessPolicy(origins=[EXTENSION, SITE], token=TOKEN, require_token=True)
WITHOUT_TOKEN = AccessPolicy()

BOTH = frozenset({"infer", "manage"})


def code_of(policy: AccessPolicy, caller: Caller) -> str:
    with pytest.raises(AccessError) as caught:
        policy.judge(caller)
    return caught.value.code


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8484", "127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:9"],
)
@pytest.mark.parametrize("upgrade", [False, True])
def test_every_loopback_host_is_ours_whatever_the_port(host: str, upgrade: bool) -> None:
    assert POLICY.judge(Caller(method="GET", host=host, upgrade=upgrade)).id == "local"


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.test",
        "evil.test:8484",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "localhost.",
        "0.0.0.0",
        "127.0.0.2",
        "192.168.1.5:8484",
        "[::ffff:127.0.0.1]",
        "::1",
        "127.0.0.1:8484@evil.test",
        "evil.test@127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1, evil.test",
        "127.0.0.1\tevil.test",
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_foreign_host_is_refused_even_with_the_token(host: str | None, token: str | None) -> None:
    assert code_of(POLICY, Caller(method="GET", host=host, token=token)) == "host_not_allowed"


def test_the_bound_address_and_allowed_hosts_are_ours() -> None:
    policy = AccessPolicy(hosts=["192.168.1.5", "fd00::1", "Box.Lan"])
    for host in ("192.168.1.5:8484", "[fd00::1]:8484", "box.lan"):
        assert policy.judge(Caller(method="GET", host=host)).id == "local"


@pytest.mark.parametrize("origin", [None, "null", "https://evil.test", EXTENSION])
@pytest.mark.parametrize("site", [None, "cross-site", "none"])
@pytest.mark.parametrize("policy", [POLICY, STRICT])
def test_a_valid_token_decides(policy: AccessPolicy, origin: str | None, site: str | None) -> None:
    caller = Caller(method="POST", host=HOST, origin=origin, sec_fetch_site=site, token=TOKEN)
    assert policy.judge(caller) == Principal("token", BOTH)


@pytest.mark.parametrize("policy", [POLICY, WITHOUT_TOKEN])
def test_an_unknown_token_counts_as_none(policy: AccessPolicy) -> None:
    assert policy.judge(Caller(method="POST", host=HOST, token="sk-any")).id == "local"
    evil = Caller(method="POST", host=HOST, token="sk-any", origin="https://evil.test")
    assert code_of(policy, evil) == "origin_not_allowed"


def test_local_software_may_infer_and_manage() -> None:
    assert POLICY.judge(Caller(method="POST", host=HOST)).scopes == BOTH


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "", "anything"])
@pytest.mark.parametrize("upgrade", [False, True])
def test_a_browser_request_without_an_origin_is_refused(site: str, upgrade: bool) -> None:
    caller = Caller(method="GET", host=HOST, sec_fetch_site=site, upgrade=upgrade)
    assert code_of(POLICY, caller) == "origin_not_allowed"


def test_an_extensions_get_reaches_read_only_routes_and_nothing_more() -> None:
    caller = Caller(method="GET", host=HOST, sec_fetch_site="none", read_only=True)
    assert POLICY.judge(caller).scopes == set()
    upgrade = Caller(method="GET", host=HOST, sec_fetch_site="none", read_only=True, upgrade=True)
    assert code_of(POLICY, upgrade) == "origin_not_allowed"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_get_does_not_even_read(site: str) -> None:
    caller = Caller(method="GET", host=HOST, sec_fetch_site=site, read_only=True, public=True)
    assert code_of(POLICY, caller) == "origin_not_allowed"


@pytest.mark.parametrize("host", ["127.0.0.1:8484", "localhost:8484", "[::1]:8484"])
def test_our_own_page_may_infer_and_manage(host: str) -> None:
    by_origin = Caller(
        method="POST", host=host, origin=f"http://{host}", sec_fetch_site="same-origin"
    )
    by_site = Caller(method="GET", host=host, sec_fetch_site="same-origin")
    assert POLICY.judge(by_origin).scopes == POLICY.judge(by_site).scopes == BOTH


def test_our_own_page_behind_a_tls_proxy_has_an_https_origin() -> None:
    policy = AccessPolicy(hosts=["ai.example.org"])
    own = Caller(
        method="GET", host="ai.example.org", origin="https://ai.example.org", scheme="https"
    )
    assert policy.judge(own).id == "page"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.test",
        "http://127.0.0.1:3000",
        "http://localhost:8484",
        "https://127.0.0.1:8484",
        OTHER_EXTENSION,
        EXTENSION + ".evil.test",
        "https://app.example.org:444",
        "http://app.example.org",
        "https://app.example.org, https://evil.test",
        "file://",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("site", [None, "cross-site", "same-site", "same-origin", "none"])
def test_an_unapproved_origin_is_refused(
    origin: str, method: str, upgrade: bool, site: str | None
) -> None:
    caller = Caller(
        method=method,
        host=HOST,
        origin=origin,
        sec_fetch_site=site,
        upgrade=upgrade,
        read_only=True,
        public=True,
    )
    assert code_of(POLICY, caller) == "origin_not_allowed"


@pytest.mark.parametrize("origin", [EXTENSION, SITE])
@pytest.mark.parametrize("upgrade", [False, True])
def test_an_approved_origin_may_infer_only_and_is_its_own_principal(
    origin: str, upgrade: bool
) -> None:
    caller = Caller(
        method="GET", host=HOST, origin=origin, sec_fetch_site="cross-site", upgrade=upgrade
    )
    assert POLICY.judge(caller) == Principal(origin, frozenset({"infer"}))


@pytest.mark.parametrize("origin", [None, SITE, f"http://{HOST}", "null", "https://evil.test"])
@pytest.mark.parametrize("site", [None, "same-origin", "none"])
@pytest.mark.parametrize("token", [None, "sk-any"])
@pytest.mark.parametrize("upgrade", [False, True])
def test_a_required_token_is_required_of_everyone(
    origin: str | None, site: str | None, token: str | None, upgrade: bool
) -> None:
    caller = Caller(
        method="GET", host=HOST, origin=origin, sec_fetch_site=site, token=token, upgrade=upgrade
    )
    assert code_of(STRICT, caller) == "token_required"


@pytest.mark.parametrize(
    ("origin", "site"), [(None, None), (f"http://{HOST}", "same-origin"), (None, "none")]
)
def test_a_public_route_needs_no_token_and_gives_no_scope(
    origin: str | None, site: str | None
) -> None:
    caller = Caller(
        method="GET", host=HOST, origin=origin, sec_fetch_site=site, read_only=True, public=True
    )
    assert STRICT.judge(caller).scopes == set()


def test_a_required_token_must_exist() -> None:
    with pytest.raises(ValueError, match="token"):
        AccessPolicy(require_token=True)


def test_only_approved_origins_get_cors_answers() -> None:
    assert POLICY.allows_origin(EXTENSION)
    for origin in ("null", "*", OTHER_EXTENSION, f"http://{HOST}", SITE.upper()):
        assert not POLICY.allows_origin(origin)


@pytest.mark.parametrize(
    ("given_origin", "sent"),
    [
        ("https://App.Example.org/", "https://app.example.org"),
        ("https://app.example.org:443", "https://app.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        (EXTENSION + "/", EXTENSION),
    ],
)
def test_an_origin_is_compared_as_browsers_send_it(given_origin: str, sent: str) -> None:
    assert parse_origin(given_origin) == sent


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "",
        "chrome-extension://*",
        "https://",
        "example.org",
        "https://*.example.org",
        "https://example.org/page",
        "https://user@example.org",
    ],
)
def test_a_pattern_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        parse_origin(text)


@pytest.mark.parametrize("text", ["", "a b", "*", "http://example.org", "exämple.org", "a/b"])
def test_a_malformed_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host"):
        parse_host(text)


def test_a_caller_is_read_from_raw_headers() -> None:
    headers = [
        (b"host", b"localhost:8484"),
        (b"origin", SITE.encode()),
        (b"sec-fetch-site", b"cross-site"),
        (b"authorization", b"bearer  abc"),
    ]
    assert Caller.from_headers("POST", headers, read_only=True) == Caller(
        method="POST",
        host="localhost:8484",
        origin=SITE,
        sec_fetch_site="cross-site",
        token="abc",
        read_only=True,
    )


@pytest.mark.parametrize(
    "offered", [b"realtime, openai-insecure-api-key.abc", b"openai-insecure-api-key.abc,realtime"]
)
def test_browser_code_hands_the_token_over_as_a_sub_protocol(offered: bytes) -> None:
    headers = [(b"host", b"localhost"), (b"sec-websocket-protocol", offered)]
    caller = Caller.from_headers("GET", headers, scheme="ws", upgrade=True)
    assert (caller.token, caller.scheme) == ("abc", "http")


@pytest.mark.parametrize("value", [b"", b"Bearer", b"Bearer ", b"Basic abc", b"abc"])
def test_what_is_no_bearer_token_counts_as_none(value: bytes) -> None:
    headers = [(b"authorization", value), (b"sec-websocket-protocol", b"openai-insecure-api-key.")]
    assert Caller.from_headers("GET", headers).token is None


@pytest.mark.parametrize("name", [b"host", b"origin"])
def test_a_doubled_header_is_never_accepted(name: bytes) -> None:
    headers = [(b"host", b"127.0.0.1"), (b"origin", SITE.encode())]
    doubled = [*headers, (name, dict(headers)[name])]
    assert code_of(POLICY, Caller.from_headers("GET", doubled)) in {
        "host_not_allowed",
        "origin_not_allowed",
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"host", b"origin", b"authorization", b"sec-websocket-protocol"]),
            st.binary(max_size=40),
        )
    )
)
def test_no_header_bytes_raise_anything_but_a_refusal(headers: list[tuple[bytes, bytes]]) -> None:
    caller = Caller.from_headers("GET", headers)
    try:
        principal = STRICT.judge(caller)
    except AccessError:
        return
    assert principal.id == "token"


def test_an_extension_is_the_same_principal_on_a_native_port() -> None:
    over_http = POLICY.judge(Caller(method="POST", host=HOST, origin=EXTENSION))
    native = POLICY.judge_native(f"{EXTENSION}/")
    assert native.id == over_http.id
    assert native.scopes == BOTH


def test_local_software_on_a_native_port_needs_no_token() -> None:
    assert STRICT.judge_native(None) == Principal("local", BOTH)
