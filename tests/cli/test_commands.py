"""The commands that look and tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tabagent
from tabagent.cli import COMMANDS
from tabagent_engine import load_model

from tests.gguf_fixtures import write_chain, write_f64_tensor
from tests.ternary_fixtures import write_ternary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done, Process
    from tests.gguf_fixtures import ChainModel

    Run = Callable[..., Done]


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").out == f"{tabagent.__version__}\n"


def test_the_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    shown = run("--help").out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert "Exit codes" in shown


def test_what_is_not_there_says_so(run: Run) -> None:
    done = run("bench")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("tabagent: not_supported: ")


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    done = run("sevre")
    assert (done.code, done.out) == (2, "")
    assert "sevre" in done.err


def test_a_wrong_settings_file_is_told_by_every_command_that_reads_it(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("prot = 1\n")
    for command in ("doctor", "status", "serve", "chat", "models list"):
        done = run(*command.split())
        assert done.code == 2
        assert "prot" in done.err


def test_doctor_tells_machines_what_the_contract_says(spawn: Run) -> None:
    done = spawn("doctor", "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["version"] == tabagent.__version__
    assert found["cpu"].keys() >= {"vendor", "family", "model", "flags", "cores", "threads"}
    assert found["memory"]["total"] > 0
    assert all(each.keys() >= {"vendor", "name", "driver", "memory"} for each in found["gpus"])
    assert found["cpu"].keys() >= {"stepping", "kinds", "caches", "allowed", "quota"}
    assert found["threads"]["count"] >= 1
    assert found["threads"]["reason"]
    assert all(each["text"] and each["gains"] for each in found["advice"])
    assert found["runtime"].keys() == {"id", "path", "variant", "version", "reason"}
    assert all(
        each.keys() >= {"id", "path", "allowed", "score", "gpu", "reason"}
        for each in found["candidates"]
    )
    with_gpu = {each["id"] for each in found["candidates"] if each["gpu"] and each["allowed"]}
    assert {each["id"] for each in found["gpu_runtimes"]} == with_gpu
    assert all(bool(each["devices"]) != bool(each["reason"]) for each in found["gpu_runtimes"])
    assert found["runtime"]["path"] in {each["path"] for each in found["candidates"]}
    backends = {each["name"]: each for each in found["backends"]}
    assert backends["gguf"].keys() == {"name", "installed", "version", "works", "reason"}
    assert backends["gguf"]["works"]
    assert "ws" in {each["name"] for each in found["transports"]}


def test_doctor_tells_people_which_runtime_and_why(spawn: Run) -> None:
    found = json.loads(spawn("doctor", "--json").out)["runtime"]
    shown = spawn("doctor").out
    for word in (found["id"], found["variant"], found["version"], found["reason"]):
        assert word in shown


def test_doctor_shows_people_cores_caches_memory_and_threads(spawn: Run) -> None:
    found = json.loads(spawn("doctor", "--json").out)
    shown = spawn("doctor").out
    for name in ("cores", "limits", "caches", "memory", "threads", "GPUs"):
        assert f"\n{name} " in shown
    assert found["threads"]["reason"] in shown
    assert all(each["text"] in shown for each in found["advice"])


def test_doctor_tells_why_a_named_runtime_is_not_there(spawn: Run, tmp_path: Path) -> None:
    found = json.loads(spawn("doctor", "--json", "--runtime", str(tmp_path / "none")).out)
    assert found["runtime"] is None
    assert str(tmp_path) in found["candidates"][0]["reason"]
    assert "refused" in spawn("doctor", "--runtime", str(tmp_path / "none")).out


def test_runtime_list_and_path_agree(spawn: Run) -> None:
    (chosen,) = [
        each for each in json.loads(spawn("runtime", "list", "--json").out) if each["chosen"]
    ]
    done = spawn("runtime", "path")
    assert chosen["path"].startswith(done.out.strip())
    assert chosen["variant"] in spawn("runtime", "list").out


def test_runtime_path_of_an_unknown_runtime_fails_with_the_code(run: Run) -> None:
    done = run("runtime", "path", "no-such-runtime")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("tabagent: library_not_found: ")


def test_inspect_judges_a_file(run: Run, chain_model: ChainModel) -> None:
    done = run("models", "inspect", str(chain_model.path), "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["verdict"] == "runs"
    assert found["architecture"] == "llama"
    assert found["estimate"]["weight_bytes"] == found["weight_bytes"] > 0
    assert sum(each["tensors"] for each in found["tensor_types"]) == found["tensor_count"]
    shown = run("models", "inspect", str(chain_model.path)).out
    for word in ("runs", "llama", "general.architecture", found["tensor_types"][0]["name"]):
        assert word in shown


def test_inspect_tells_how_a_ternary_file_runs(run: Run, tmp_path: Path) -> None:
    file = write_ternary(tmp_path / "x.gguf", "bitnet-b1.58")
    done = run("models", "inspect", str(file))
    assert done.code == 0
    for word in ("14 tensors of I2_S", "TQ2_0 and Q4_0", "at its first load", "squared ReLU"):
        assert word in done.out
    found = json.loads(run("models", "inspect", str(file), "--json").out)
    assert (found["verdict"], found["ternary"]["needs_transcoding"]) == ("runs", True)


def test_cache_clear_removes_transcoded_models(run: Run, tmp_path: Path) -> None:
    assert run("cache", "clear").out == "removed 0 transcoded models, 0 B\n"
    load_model(write_ternary(tmp_path / "x.gguf")).unload()
    assert "removed 0 " in run("cache", "clear", "--keep", "1G").out
    done = run("cache", "clear")
    assert (done.code, done.out.startswith("removed 1 transcoded model, ")) == (0, True)
    assert "removed 0 " in run("cache", "clear").out


def test_a_wrong_size_to_keep_is_a_usage_error(run: Run) -> None:
    done = run("cache", "clear", "--keep", "much")
    assert (done.code, done.out) == (2, "")
    assert "much" in done.err


def test_inspect_shows_what_it_refuses_and_fails(run: Run, tmp_path: Path) -> None:
    file = write_f64_tensor(tmp_path / "x.gguf")
    shown, described = (
        run("models", "inspect", str(file)),
        run("models", "inspect", str(file), "--json"),
    )
    assert shown.code == described.code == 1
    found = json.loads(described.out)
    assert found["verdict"] == "gguf_unsupported"
    assert found["problem"] in shown.out
    assert "output.weight" in found["problem"]
    assert {each["name"] for each in found["tensor_types"]} == {"F32", "F64"}


def test_inspect_sums_up_a_split_model(run: Run, tmp_path: Path) -> None:
    model = write_chain(tmp_path / "x.gguf", tensors_per_file=8)
    shown = run("models", "inspect", str(model.path))
    assert shown.code == 0
    assert "3 files" in shown.out


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "model_not_found"), (b"", "gguf_invalid"), (b"GGUF\x03\0\0\0", "gguf_invalid")],
)
def test_inspect_fails_with_the_code(
    run: Run, tmp_path: Path, content: bytes | None, code: str
) -> None:
    file = tmp_path / "x.gguf"
    if content is not None:
        file.write_bytes(content)
    done = run("models", "inspect", str(file))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"tabagent: {code}: ")


def test_without_a_server_models_lists_what_one_would_have(run: Run, home: Path) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / "kept.gguf").touch()
    found = json.loads(run("models", "list", "--json").out)
    assert [each["id"] for each in found] == ["tabagent-guide", "kept"]
    assert "kept" in run("models", "list").out


def test_without_a_server_status_says_so_and_fails(run: Run) -> None:
    assert run("status").code == 1
    assert json.loads(run("status", "--json").out) == {"running": False}


def test_status_and_models_ask_the_running_server(
    run: Run, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start("serve", "--model", "demo=echo:x", "--port", "0", "--require-token").url()
    found = json.loads(run("status", "--url", url, "--json").out)
    assert (found["running"], found["health"], found["url"]) == (True, "ok", url)
    assert [each["id"] for each in found["models"]] == ["demo"]
    assert "demo" in run("status", "--url", url).out
    monkeypatch.setenv("TABAGENT_PORT", url.rpartition(":")[2])
    assert [each["id"] for each in json.loads(run("models", "list", "--json").out)] == ["demo"]


def test_a_url_that_leads_nowhere_is_an_error(run: Run) -> None:
    done = run("status", "--url", "http://127.0.0.1:9")
    assert done.code == 1
    assert done.err.startswith("tabagent: upstream_failed: ")
