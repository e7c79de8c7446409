"""`tabagent models pull` and `rm`, without and beside a running server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.hub.local_hub import Repo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Done, Process
    from tests.gguf_fixtures import ChainModel
    from tests.hub.local_hub import LocalHub

    Run = Callable[..., Done]


def listed(done: Done) -> list[str]:
    return [each["id"] for each in json.loads(done.out)]


def test_a_pulled_model_is_listed_answers_and_can_be_removed(
    spawn: Run, home: Path, hub: LocalHub, chain_model: ChainModel
) -> None:
    hub.repos["org/repo"] = Repo({"known-F32.gguf": chain_model.path.read_bytes()})
    done = spawn("models", "pull", "hf:org/repo")
    assert (done.code, done.out) == (0, "known-F32\n"), done.err
    assert "known-F32.gguf" in done.err  # the progress
    assert "known-F32" in listed(spawn("models", "list", "--json"))
    assert spawn("models", "inspect", "known-F32").code == 0
    assert spawn("models", "rm", "known-F32").code == 0
    assert list((home / "models").iterdir()) == []


def test_quiet_shows_errors_only(spawn: Run, hub: LocalHub) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": b"x"})
    assert spawn("models", "pull", "--quiet", "hf:org/repo").err == ""
    assert spawn("models", "pull", "--quiet", "hf:org/repo:Q2_K").err.startswith(
        "tabagent: model_not_found: "
    )


def test_a_reference_with_several_meanings_lists_them(spawn: Run, hub: LocalHub) -> None:
    hub.repos["org/repo"] = Repo({"m-Q4_0.gguf": b"x", "m-Q8_0.gguf": b"y"})
    done = spawn("models", "pull", "hf:org/repo")
    assert (done.code, done.out) == (2, "")
    assert "Q4_0, Q8_0" in done.err


def test_what_is_no_reference_is_wrong_usage(run: Run) -> None:
    assert run("models", "pull", "file.gguf").code == 2


def test_removing_what_is_not_there_fails(run: Run) -> None:
    done = run("models", "rm", "tabagent-guide")
    assert done.code == 1
    assert done.err.startswith("tabagent: model_not_found: ")


def test_a_running_server_pulls_knows_and_removes_the_model(
    run: Run,
    start: Callable[..., Process],
    home: Path,
    hub: LocalHub,
    chain_model: ChainModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.repos["org/repo"] = Repo({"known.gguf": chain_model.path.read_bytes()})
    url = start("serve", "--model", "demo=echo:x", "--port", "0").url()
    monkeypatch.setenv("TABAGENT_PORT", url.rpartition(":")[2])
    assert run("models", "pull", "hf:org/repo").out == "known\n"
    assert listed(run("models", "list", "--json")) == ["demo", "known"]
    assert run("models", "rm", "known").code == 0
    assert listed(run("models", "list", "--json")) == ["demo"]
    assert list((home / "models").iterdir()) == []
    done = run("models", "pull", "hf:org/none")
    assert done.err.splitlines()[-1].startswith("tabagent: model_not_found: ")
