"""Pairing: extensions ask, people approve, and the file keeps what was said."""

from __future__ import annotations

import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.config import ConfigError, Paths
from tabagent.core.access import AccessPolicy, Caller
from tabagent.core.errors import AccessError, RequestError
from tabagent.core.origins import (
    MAX_PENDING,
    ApprovedOrigin,
    OriginRecords,
    PendingOrigin,
    is_extension,
)
from tabagent.origins import OriginStore

if TYPE_CHECKING:
    from pathlib import Path

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
OTHER = "chrome-extension://ponmlkjihgfedcbaponmlkjihgfedcba"
PAGE = "https://page.example"


def extension(number: int) -> str:
    letters = "".join("abcdefghijklmnop"[int(digit, 16)] for digit in f"{number:032x}")
    return f"chrome-extension://{letters}"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.locate({"TABAGENT_HOME": str(tmp_path / "home")})


@pytest.fixture
def store(paths: Paths) -> OriginStore:
    return OriginStore(paths)


def save(*stores: OriginStore) -> None:
    for store in stores:
        anyio.run(store.save)


def approved(store: OriginStore) -> list[str]:
    return [each.origin for each in store.list().approved]


def install(paths: Paths, *origins: str, name: str = "com.tabagent.host") -> None:
    """Write what the installed native host records."""
    folder = paths.data / "host"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"name": name, "path": "/x", "allowed_origins": [f"{each}/" for each in origins]}
    (folder / "com.tabagent.host.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (EXTENSION, True),
        ("moz-extension://0a1b2c3d-0000-4000-8000-0123456789ab", True),
        ("safari-web-extension://0a1b2c3d-0000-4000-8000-0123456789ab", True),
        (EXTENSION + "x", False),
        (EXTENSION.upper(), False),
        ("chrome-extension://abcdefghijklmnopabcdefghijklmnoz", False),
        (PAGE, False),
        ("http://127.0.0.1:3000", False),
        ("null", False),
        ("", False),
    ],
)
def test_what_an_extension_is(origin: str, expected: bool) -> None:
    assert is_extension(origin) is expected


class TestAsking:
    def test_an_extension_that_asks_is_pending_under_one_code(self, store: OriginStore) -> None:
        code = store.ask(EXTENSION)
        assert store.ask(EXTENSION) == code
        [pending] = store.list().pending
        assert (pending.origin, pending.code) == (EXTENSION, code)
        assert not store.is_approved(EXTENSION)

    def test_the_longest_waiting_one_gives_way(self, store: OriginStore) -> None:
        codes = [store.ask(extension(number)) for number in range(MAX_PENDING + 5)]
        pending = store.list().pending
        assert [each.origin for each in pending] == list(map(extension, range(5, MAX_PENDING + 5)))
        assert len(set(codes)) == len(codes)

    @pytest.mark.parametrize("spelling", [str, str.lower, lambda code: code.replace("-", "")])
    def test_a_code_approves_its_extension(self, store: OriginStore, spelling: Any) -> None:
        store.ask(OTHER)
        store.approve(spelling(store.ask(EXTENSION)))
        assert (store.is_approved(EXTENSION), store.is_approved(OTHER)) == (True, False)
        assert [each.origin for each in store.list().pending] == [OTHER]

    def test_a_code_refuses_its_extension(self, store: OriginStore) -> None:
        store.revoke(store.ask(EXTENSION))
        assert store.list().pending == []


class TestApproving:
    @pytest.mark.parametrize(
        ("name", "origin"), [(PAGE, PAGE), ("HTTPS://Page.example:443/", PAGE), (OTHER, OTHER)]
    )
    def test_an_origin_is_approved_by_name(
        self, store: OriginStore, name: str, origin: str
    ) -> None:
        store.approve(name)
        assert store.list().approved == [ApprovedOrigin(origin, "user")]
        store.revoke(name)
        assert store.list().approved == []

    @pytest.mark.parametrize("name", ["", "*", "null", "ABC-DEF", "https://*.example", "x" * 999])
    def test_what_is_no_origin_is_refused(self, store: OriginStore, name: str) -> None:
        for change in (store.approve, store.revoke):
            with pytest.raises(RequestError) as caught:
                change(name)
            assert (caught.value.code, caught.value.param) == ("invalid_parameter", "origin")

    def test_only_what_is_known_can_be_revoked(self, store: OriginStore) -> None:
        with pytest.raises(RequestError, match="not approved"):
            store.revoke(PAGE)

    def test_settings_approve_too(self, paths: Paths) -> None:
        store = OriginStore(paths, [PAGE])
        assert store.is_approved(PAGE)
        assert store.list().approved == [ApprovedOrigin(PAGE, "setting")]
        with pytest.raises(RequestError, match="--allow-origin"):
            store.revoke(PAGE)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["ask", "approve", "revoke"]), st.integers(0, 30)),
            max_size=60,
        )
    )
    def test_no_origin_is_both_approved_and_pending(self, steps: list[tuple[str, int]]) -> None:
        records = OriginRecords()
        for step, number in steps:
            origin = extension(number)
            if step == "ask":
                records = records.ask(PendingOrigin(origin, str(number), 0))
            else:
                records = getattr(records, step)(origin)
        waiting = [each.origin for each in records.pending]
        assert len(set(waiting)) == len(waiting) <= MAX_PENDING
        assert not set(waiting) & set(records.approved)


class TestNativeHost:
    def test_its_manifest_approves_its_extensions(self, paths: Paths) -> None:
        install(paths, EXTENSION)
        store = OriginStore(paths)
        assert store.list().approved == [ApprovedOrigin(EXTENSION, "host")]
        with pytest.raises(RequestError, match="host uninstall"):
            store.revoke(EXTENSION)

    def test_an_installation_is_seen_while_the_server_runs(
        self, paths: Paths, store: OriginStore
    ) -> None:
        store.ask(EXTENSION)
        install(paths, EXTENSION)
        save(store)
        assert store.is_approved(EXTENSION)
        assert store.list().pending == []
        install(paths, OTHER)
        save(store)
        assert approved(store) == [OTHER]

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "com.tabagent.host"}'])
    def test_a_broken_manifest_approves_nothing(self, paths: Paths, text: str) -> None:
        install(paths)
        (paths.data / "host" / "com.tabagent.host.json").write_text(text)
        assert approved(OriginStore(paths)) == []

    def test_a_foreign_manifest_or_origin_approves_nothing(self, paths: Paths) -> None:
        install(paths, EXTENSION, name="com.other.host")
        assert approved(OriginStore(paths)) == []
        install(paths, PAGE, "chrome-extension://*")
        assert approved(OriginStore(paths)) == []


class TestFile:
    def test_it_keeps_everything(self, paths: Paths, store: OriginStore) -> None:
        store.approve(PAGE)
        store.ask(EXTENSION)
        save(store)
        assert OriginStore(paths).list() == store.list()

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
    def test_only_its_user_can_read_it(self, paths: Paths, store: OriginStore) -> None:
        store.approve(PAGE)
        save(store)
        assert stat.S_IMODE(paths.origins.stat().st_mode) == 0o600
        assert [file.name for file in paths.state.iterdir()] == ["origins.json"]

    def test_nothing_is_written_without_a_change(self, paths: Paths, store: OriginStore) -> None:
        save(store)
        assert not paths.origins.exists()

    def test_changes_of_two_processes_are_both_kept(self, paths: Paths) -> None:
        server, command = OriginStore(paths), OriginStore(paths)
        server.ask(EXTENSION)
        command.approve(PAGE)
        save(command, server, command)
        for store in (server, command, OriginStore(paths)):
            assert approved(store) == [PAGE]
            assert [each.origin for each in store.list().pending] == [EXTENSION]

    def test_an_approval_by_another_process_is_seen(self, paths: Paths) -> None:
        server, command = OriginStore(paths), OriginStore(paths)
        code = server.ask(EXTENSION)
        save(server, command)
        command.approve(code)
        save(command, server)
        assert server.is_approved(EXTENSION)

    @pytest.mark.parametrize("text", ["{", "[]", '{"approved": 5}'])
    def test_a_broken_one_is_an_error_that_names_it(self, paths: Paths, text: str) -> None:
        paths.state.mkdir(parents=True)
        paths.origins.write_text(text)
        with pytest.raises(ConfigError, match=r"origins\.json"):
            OriginStore(paths)

    def test_one_that_breaks_later_changes_nothing(
        self, paths: Paths, store: OriginStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.approve(PAGE)
        save(store)
        paths.origins.write_text("{")
        save(store)
        assert approved(store) == [PAGE]
        assert "cannot be kept up to date" in caplog.text


class TestPolicy:
    def judge(self, store: OriginStore, origin: str, **shown: Any) -> str:
        policy = AccessPolicy(registry=store, token="secret", **shown)
        caller = Caller(method="POST", host="127.0.0.1:8484", origin=origin)
        return policy.judge(caller).id

    def test_an_unknown_extension_is_told_its_code(self, store: OriginStore) -> None:
        with pytest.raises(AccessError) as caught:
            self.judge(store, EXTENSION)
        [pending] = store.list().pending
        assert caught.value.pairing_code == pending.code
        assert caught.value.code == "origin_not_allowed"

    @pytest.mark.parametrize("origin", [PAGE, "null", EXTENSION + "x", "https://evil.test\r\n"])
    def test_nobody_else_is(self, store: OriginStore, origin: str) -> None:
        with pytest.raises(AccessError) as caught:
            self.judge(store, origin)
        assert caught.value.pairing_code is None
        assert store.list().pending == []

    def test_where_a_token_is_needed_nobody_may_ask(self, store: OriginStore) -> None:
        with pytest.raises(AccessError) as caught:
            self.judge(store, EXTENSION, require_token=True)
        assert caught.value.code == "token_required"
        assert store.list().pending == []

    def test_an_approved_one_may_infer(self, store: OriginStore) -> None:
        store.approve(EXTENSION)
        assert self.judge(store, EXTENSION) == EXTENSION
        store.revoke(EXTENSION)
        with pytest.raises(AccessError):
            self.judge(store, EXTENSION)
