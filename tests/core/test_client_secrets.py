"""Client secrets: who may make one, who its holder is, and when it stops letting in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tabagent.config import Paths
from tabagent.core.access import AccessPolicy, Caller
from tabagent.core.client_secrets import MAX_SECRETS, ClientSecret, ClientSecrets
from tabagent.core.errors import AccessError, TabagentError
from tabagent.core.requests import LOCAL, Principal
from tabagent.origins import OriginStore

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "t0ken-of-this-server"
EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy(clock: Clock) -> AccessPolicy:
    return AccessPolicy(token=TOKEN, require_token=True, secrets=ClientSecrets(clock))


def caller(token: str, origin: str | None = None) -> Caller:
    return Caller(method="POST", host="127.0.0.1", token=token, origin=origin)


def refusal(policy: AccessPolicy, token: str) -> str:
    with pytest.raises(AccessError) as caught:
        policy.judge(caller(token))
    return caught.value.code


@pytest.mark.parametrize("origin", [None, "https://app.test", "null"])
def test_its_holder_may_infer_from_anywhere_and_nothing_else(
    policy: AccessPolicy, origin: str | None
) -> None:
    secret = policy.issue_secret(LOCAL, 60)
    assert secret.value.startswith("ek_")
    assert policy.judge(caller(secret.value, origin)).scopes == {"infer"}


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer %s")],
        [(b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.%s")],
    ],
)
def test_it_is_shown_like_a_token(policy: AccessPolicy, headers: list[tuple[bytes, bytes]]) -> None:
    value = policy.issue_secret(LOCAL, 60).value.encode()
    shown = [(name, text % value) for name, text in headers]
    seen = Caller.from_headers("GET", [(b"host", b"localhost"), *shown], upgrade=True)
    assert policy.judge(seen).scopes == {"infer"}


def test_a_foreign_host_is_refused_even_with_it(policy: AccessPolicy) -> None:
    secret = policy.issue_secret(LOCAL, 60)
    with pytest.raises(AccessError) as caught:
        policy.judge(Caller(method="GET", host="evil.test", token=secret.value))
    assert caught.value.code == "host_not_allowed"


def test_it_expires(policy: AccessPolicy, clock: Clock) -> None:
    secret = policy.issue_secret(LOCAL, 60)
    assert secret.expires_at == clock.now + 60
    clock.now += 59
    assert policy.judge(caller(secret.value)).expires_at == secret.expires_at
    clock.now += 1
    assert refusal(policy, secret.value) == "token_required"


@pytest.mark.parametrize("wrong", ["ek_", "ek_" + "0" * 64, "ek_é", "client_secret:1"])
def test_a_wrong_one_lets_nobody_in(policy: AccessPolicy, wrong: str) -> None:
    policy.issue_secret(LOCAL, 60)
    assert refusal(policy, wrong) == "token_required"


def test_where_no_token_is_needed_a_wrong_one_counts_as_none() -> None:
    assert AccessPolicy().judge(caller("ek_wrong")) == LOCAL


def test_holders_are_strangers_to_each_other_and_to_who_made_them(policy: AccessPolicy) -> None:
    ids = {policy.judge(caller(policy.issue_secret(LOCAL, 60).value)).id for _ in range(3)}
    assert len(ids | {LOCAL.id}) == 4


def test_it_remembers_what_session_it_is_for(policy: AccessPolicy) -> None:
    secret = policy.issue_secret(LOCAL, 60, {"model": "m"})
    assert policy.session_of(caller(secret.value)) == {"model": "m"}
    assert policy.session_of(caller("ek_other")) == {}
    assert policy.session_of(Caller(method="GET")) == {}


def test_it_makes_no_other(policy: AccessPolicy) -> None:
    holder = policy.judge(caller(policy.issue_secret(LOCAL, 60).value))
    with pytest.raises(AccessError) as caught:
        policy.issue_secret(holder, 60)
    assert caught.value.code == "scope_required"


def test_who_may_not_infer_makes_none(policy: AccessPolicy) -> None:
    with pytest.raises(AccessError) as caught:
        policy.issue_secret(Principal("reader", frozenset()), 60)
    assert caught.value.code == "scope_required"


def test_an_origin_s_own_holds_as_long_as_it_is_approved(tmp_path: Path) -> None:
    origins = OriginStore(Paths.locate({"TABAGENT_HOME": str(tmp_path)}))
    origins.approve(EXTENSION)
    policy = AccessPolicy(registry=origins, token=TOKEN, require_token=True)
    secret = policy.issue_secret(Principal(EXTENSION), 60)
    assert policy.judge(caller(secret.value)).id == EXTENSION
    origins.revoke(EXTENSION)
    assert refusal(policy, secret.value) == "token_required"
    assert policy.session_of(caller(secret.value)) == {}


def test_those_of_one_principal_are_bounded_and_the_expired_make_room(clock: Clock) -> None:
    secrets = ClientSecrets(clock)

    def issue(name: str, seconds: float) -> ClientSecret:
        return secrets.issue(Principal(name), seconds)

    first = issue("a", 10)
    for _ in range(MAX_SECRETS - 1):
        issue("a", 60)
    with pytest.raises(TabagentError) as caught:
        issue("a", 60)
    assert caught.value.code == "overloaded"
    assert secrets.find(issue("b", 60).value)
    clock.now += 10
    assert secrets.find(issue("a", 60).value)
    assert secrets.find(first.value) is None
