"""Pulls from a Hub of the tests' own, each in a process of its own, some of them killed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tabagent.hub.report import PulledReport

from tests.hub.local_hub import GOOD_TOKEN, Repo

if TYPE_CHECKING:
    from tests.hub.conftest import Puller
    from tests.hub.local_hub import LocalHub

PIECE = 10 * 1024 * 1024
"""What `huggingface_hub` writes at once."""

SMALL = b"GGUF" + bytes(range(256)) * 8
BIG = random.Random(1).randbytes(PIECE * 2 + 1234)


def test_a_model_arrives_under_the_name_it_has_on_the_hub(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"tiny-Q8_0.gguf": SMALL}, small={"README.md": b"# hi"})
    assert puller.pull("hf:org/repo") == PulledReport(str(puller.folder / "tiny-Q8_0.gguf"))
    assert (puller.folder / "tiny-Q8_0.gguf").read_bytes() == SMALL
    assert [path.name for path in puller.folder.iterdir()] == ["tiny-Q8_0.gguf"]


def test_progress_runs_from_nothing_to_all_bytes(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": BIG})
    puller.pull("hf:org/repo")
    done = [report.done for report in puller.progress]
    assert done[0] == 0
    assert done[1:3] == [PIECE, 2 * PIECE]
    assert done[-1] == len(BIG)
    assert {(report.file, report.total) for report in puller.progress} == {("m.gguf", len(BIG))}


def test_a_small_file_outside_of_lfs_is_checked_by_its_git_hash(
    hub: LocalHub, puller: Puller
) -> None:
    hub.repos["org/repo"] = Repo({}, small={"m.gguf": SMALL})
    puller.pull("hf:org/repo")
    assert (puller.folder / "m.gguf").read_bytes() == SMALL


def test_after_a_kill_nothing_is_installed_and_the_next_pull_goes_on(
    hub: LocalHub, puller: Puller
) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": BIG})
    hub.hold_after = PIECE + 1000
    puller.kill_at("hf:org/repo", PIECE)
    assert puller.visible() == []
    assert puller.staged() == PIECE
    hub.hold_after = None
    puller.pull("hf:org/repo")
    assert (puller.folder / "m.gguf").read_bytes() == BIG
    assert hub.ranges == [None, f"bytes={PIECE}-"]
    assert puller.progress[0].done == PIECE


def test_a_lost_connection_is_taken_up_where_it_broke(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": BIG})
    hub.cut_after = PIECE + 1000
    puller.pull("hf:org/repo")
    assert (puller.folder / "m.gguf").read_bytes() == BIG
    assert hub.ranges == [None, f"bytes={PIECE}-"]


def test_a_hub_that_ignores_ranges_sends_the_whole_again(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": BIG}, ignores_ranges=True)
    hub.cut_after = PIECE + 1000
    puller.pull("hf:org/repo")
    assert (puller.folder / "m.gguf").read_bytes() == BIG


def test_wrong_bytes_are_deleted_and_never_installed(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": SMALL}, corrupt=True)
    code, text = puller.refusal("hf:org/repo")
    assert code == "upstream_failed"
    assert "checksum" in text
    assert (puller.visible(), puller.staged()) == ([], 0)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    hub: LocalHub, puller: Puller
) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": SMALL}, announced_size=1 << 60)
    code, text = puller.refusal("hf:org/repo")
    assert code == "out_of_memory"
    assert f"{1 << 60:,} bytes" in text
    assert hub.ranges == []


def test_a_gated_repository_needs_a_token_that_was_let_in(
    hub: LocalHub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": SMALL}, gated=True)
    for token in (None, "hf_stranger"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        code, text = puller.refusal("hf:org/repo")
        assert code == "upstream_failed"
        assert "org/repo is gated" in text
        assert "HF_TOKEN" in text
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert isinstance(puller.pull("hf:org/repo"), PulledReport)
    assert hub.storage_tokens == [None]  # another host never sees it


def test_a_split_model_is_there_with_all_its_parts_or_not_at_all(
    hub: LocalHub, puller: Puller
) -> None:
    parts = {f"q/big-Q8_0-0000{n}-of-00002.gguf": BIG[n:] for n in (1, 2)}
    hub.repos["org/repo"] = Repo(parts)
    hub.hold_after = PIECE + 1000
    puller.kill_at("hf:org/repo", PIECE)
    hub.hold_after = None
    assert puller.visible() == []
    file = puller.folder / "big-Q8_0" / "big-Q8_0-00001-of-00002.gguf"
    assert puller.pull("hf:org/repo:Q8_0") == PulledReport(str(file))
    assert puller.visible() == [f"big-Q8_0/{Path(name).name}" for name in parts]
    assert [path.read_bytes() for path in sorted(file.parent.iterdir())] == list(parts.values())


def test_what_is_there_already_is_checked_and_not_fetched_again(
    hub: LocalHub, puller: Puller
) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": SMALL})
    assert puller.pull("hf:org/repo") == puller.pull("hf:org/repo")
    assert len(hub.ranges) == 1


def test_another_model_of_the_same_name_is_never_overwritten(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": SMALL})
    puller.folder.mkdir()
    (puller.folder / "m.gguf").write_bytes(b"mine")
    code, text = puller.refusal("hf:org/repo")
    assert code == "invalid_parameter"
    assert "is another model" in text
    assert (puller.folder / "m.gguf").read_bytes() == b"mine"


def test_two_pulls_of_the_same_do_not_write_one_file(hub: LocalHub, puller: Puller) -> None:
    hub.repos["org/repo"] = Repo({"m.gguf": BIG})
    hub.hold_after = 1
    with puller.start("hf:org/repo") as (_, stdout):
        stdout.readline()  # it has the file
        assert puller.refusal("hf:org/repo")[0] == "overloaded"


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("hf:org/none", "model_not_found"),
        ("hf:org/repo@v9", "model_not_found"),
        ("hf:org/repo:Q9_9", "model_not_found"),
        ("hf:org/empty", "model_not_found"),
        ("hf:../x", "invalid_parameter"),
        ("https://huggingface.co/org/repo", "invalid_parameter"),
    ],
)
def test_what_cannot_be_found_is_told_with_a_code(
    hub: LocalHub, puller: Puller, reference: str, code: str
) -> None:
    hub.repos |= {"org/repo": Repo({"m.gguf": SMALL}), "org/empty": Repo({"a.bin": SMALL})}
    assert puller.refusal(reference)[0] == code


def test_a_hub_that_cannot_be_reached_is_told(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert puller.refusal("hf:org/repo")[0] == "upstream_failed"
