"""The host is installed where every browser looks, again and again the same."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tabagent_native.install import Finding, Host, HostFolders
from tabagent_native.launcher import launcher_text, recorded_interpreter
from tabagent_native.manifest import BROWSERS, Extensions

if TYPE_CHECKING:
    from tabagent_native.manifest import Platform

ONE = "a" * 32
OTHER = "b" * 32
ADD_ON = "tabagent@example.org"
CHROME = [browser for browser in BROWSERS if browser.name == "chrome"]
LINUX_MANIFESTS = {
    "google-chrome/NativeMessagingHosts",
    "chromium/NativeMessagingHosts",
    "microsoft-edge/NativeMessagingHosts",
    "BraveSoftware/Brave-Browser/NativeMessagingHosts",
    "vivaldi/NativeMessagingHosts",
}


class FakeRegistry(dict[str, str]):
    """Keys and their default values; `get` is the dictionary's own."""

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture
def folders(tmp_path: Path) -> HostFolders:
    home = tmp_path / "user"
    return HostFolders(tmp_path / "data/host", tmp_path / "state", home, home / ".config")


@pytest.fixture
def host(folders: HostFolders) -> Host:
    return Host(folders, "linux", sys.executable)


def ids(*texts: str) -> Extensions:
    return Extensions.parse(texts)


def manifests(folder: Path) -> dict[str, dict[str, object]]:
    """The manifests below a folder, by their folders."""
    found = folder.rglob("com.tabagent.host.json")
    return {str(file.parent.relative_to(folder)): json.loads(file.read_text()) for file in found}


def chrome_manifest(folders: HostFolders) -> Path:
    return folders.config_home / "google-chrome/NativeMessagingHosts/com.tabagent.host.json"


def problems(host: Host) -> list[Finding]:
    return [finding for finding in host.status() if finding.problem]


def test_chromium_browsers_get_the_origins_and_firefox_the_add_ons(
    host: Host, folders: HostFolders
) -> None:
    host.install(ids(ONE, OTHER, ADD_ON))
    found = manifests(folders.home)
    assert found.pop(".mozilla/native-messaging-hosts") == {
        "name": "com.tabagent.host",
        "description": "TabAgent: local models for browser extensions",
        "path": str(host.launcher),
        "type": "stdio",
        "allowed_extensions": [ADD_ON],
    }
    assert set(found) == {f".config/{folder}" for folder in LINUX_MANIFESTS}
    for manifest in found.values():
        assert manifest["path"] == str(host.launcher)
        assert manifest["allowed_origins"] == [
            f"chrome-extension://{ONE}/",
            f"chrome-extension://{OTHER}/",
        ]


def test_linux_browsers_are_sought_where_their_configuration_is(tmp_path: Path) -> None:
    folders = HostFolders(tmp_path / "h", tmp_path, tmp_path / "user", tmp_path / "xdg")
    Host(folders, "linux", sys.executable).install(ids(ONE))
    assert set(manifests(tmp_path / "xdg")) == LINUX_MANIFESTS
    assert manifests(tmp_path / "user") == {}


def test_macos_browsers_look_in_application_support(tmp_path: Path, folders: HostFolders) -> None:
    Host(folders, "darwin", sys.executable).install(ids(ONE, ADD_ON))
    assert set(manifests(folders.home / "Library/Application Support")) == {
        "Google/Chrome/NativeMessagingHosts",
        "Chromium/NativeMessagingHosts",
        "Microsoft Edge/NativeMessagingHosts",
        "BraveSoftware/Brave-Browser/NativeMessagingHosts",
        "Vivaldi/NativeMessagingHosts",
        "Mozilla/NativeMessagingHosts",
    }


def test_windows_browsers_look_in_the_registry(folders: HostFolders) -> None:
    registry = FakeRegistry()
    host = Host(folders, "win32", r"C:\Python\python.exe", registry)
    host.install(ids(ONE, ADD_ON))
    chromium = str(folders.host / "com.tabagent.host.json")
    assert registry == {
        r"Software\Google\Chrome\NativeMessagingHosts\com.tabagent.host": chromium,
        r"Software\Chromium\NativeMessagingHosts\com.tabagent.host": chromium,
        r"Software\Microsoft\Edge\NativeMessagingHosts\com.tabagent.host": chromium,
        r"Software\Mozilla\NativeMessagingHosts\com.tabagent.host": str(
            folders.host / "com.tabagent.host.firefox.json"
        ),
    }
    assert json.loads(Path(chromium).read_text())["path"] == str(folders.host / "launch.bat")
    assert {change.action for change in host.install(ids(ONE))} == {"unchanged"}
    host.uninstall()
    assert registry == {}
    assert not folders.host.exists()


def test_windows_findings_name_the_key(folders: HostFolders) -> None:
    registry = FakeRegistry()
    host = Host(folders, "win32", sys.executable, registry)
    host.install(ids(ONE))
    key = r"Software\Chromium\NativeMessagingHosts\com.tabagent.host"
    registry[key] = r"C:\gone.json"
    (finding,) = problems(host)
    assert (finding.state, finding.target) == ("broken", rf"HKEY_CURRENT_USER\{key}")


def test_a_second_install_changes_nothing(host: Host) -> None:
    assert {change.action for change in host.install(ids(ONE))} == {"written"}
    assert {change.action for change in host.install(ids(ONE))} == {"unchanged"}
    assert {change.action for change in host.install(Extensions())} == {"unchanged"}


def test_extensions_are_added_to_those_installed_before(host: Host) -> None:
    host.install(ids(ONE))
    host.install(ids(OTHER, ADD_ON))
    assert host.extensions() == ids(ONE, OTHER, ADD_ON)


def test_a_dry_run_says_the_same_and_changes_nothing(host: Host, tmp_path: Path) -> None:
    planned = host.install(ids(ONE), dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert host.install(ids(ONE)) == planned
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {change.action for change in host.uninstall(dry_run=True)} == {"removed"}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_the_named_browsers_are_touched(host: Host, folders: HostFolders) -> None:
    host.install(ids(ONE), CHROME)
    assert set(manifests(folders.home)) == {".config/google-chrome/NativeMessagingHosts"}


def test_without_any_extension_there_is_nothing_to_install(host: Host) -> None:
    with pytest.raises(ValueError, match="EXTENSION_ID"):
        host.install(Extensions())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 31,
        "q" * 32,
        "A" * 32,
        "a" * 33,
        "*",
        "chrome-extension://*/",
        "no at sign",
        "x y@z",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no extension id"):
        ids(text)


@pytest.mark.parametrize("text", [ADD_ON, "@short", "{12345678-90ab-cdef-1234-567890abcdef}"])
def test_add_on_ids_are_firefoxs(text: str) -> None:
    assert ids(text).firefox == {text}


def test_an_origin_stands_for_its_id() -> None:
    assert ids(f"chrome-extension://{ONE}/") == ids(ONE)


def test_uninstall_leaves_no_trace(host: Host, folders: HostFolders) -> None:
    host.install(ids(ONE, ADD_ON))
    assert {change.action for change in host.uninstall()} == {"removed"}
    assert not folders.host.exists()
    assert manifests(folders.home) == {}
    assert host.uninstall() == []


def test_uninstalling_one_extension_leaves_the_others(host: Host, folders: HostFolders) -> None:
    host.install(ids(ONE, OTHER, ADD_ON), CHROME)
    host.uninstall(ids(OTHER, ADD_ON))
    assert host.extensions() == ids(ONE)
    assert set(manifests(folders.home)) == {".config/google-chrome/NativeMessagingHosts"}
    assert problems(host) == []


def test_uninstalling_the_last_extension_removes_the_host(host: Host, folders: HostFolders) -> None:
    host.install(ids(ONE))
    host.uninstall(ids(ONE))
    assert not folders.host.exists()


def test_the_manifest_of_another_installation_is_kept(
    host: Host, folders: HostFolders, tmp_path: Path
) -> None:
    other = HostFolders(tmp_path / "other", tmp_path, folders.home, folders.config_home)
    Host(other, "linux", sys.executable).install(ids(OTHER), CHROME)
    host.install(ids(ONE), [browser for browser in BROWSERS if browser.name == "chromium"])
    changes = host.uninstall()
    kept = [change.target for change in changes if change.action == "kept"]
    assert kept == [
        str(folders.config_home / "google-chrome/NativeMessagingHosts/com.tabagent.host.json")
    ]
    assert set(manifests(folders.home)) == {".config/google-chrome/NativeMessagingHosts"}


def test_a_fresh_installation_has_no_problem(host: Host) -> None:
    host.install(ids(ONE, ADD_ON))
    assert {finding.state for finding in host.status()} == {"ok"}


def test_nothing_installed_is_one_finding(host: Host) -> None:
    (finding,) = host.status()
    assert (finding.state, finding.remedy) == ("absent", "tabagent host install EXTENSION_ID")


def test_a_browser_without_a_manifest_is_no_problem(host: Host) -> None:
    host.install(ids(ONE), CHROME)
    absent = [finding for finding in host.status() if finding.state == "absent"]
    assert {finding.browser for finding in absent} == {"chromium", "edge", "brave", "vivaldi"}
    assert problems(host) == []


SELF = "{launcher}"  # stands for the launcher's path

DAMAGES = [
    ("manifest", '"name"', "name", "broken", "is no manifest"),
    ("manifest", "stdio", "pipe", "broken", "is no manifest"),
    ("manifest", SELF, "/gone", "broken", "starts /gone, which is gone"),
    ("manifest", SELF, sys.executable, "stale", "another installation"),
    ("manifest", ONE, OTHER, "stale", "other extensions"),
    ("shim", "START_TIMEOUT = 30", "START_TIMEOUT = 3", "stale", "another version"),
    ("launcher", sys.executable, "/gone/python", "broken", "runs /gone/python, which is gone"),
    ("own manifest", '"name"', "name", "broken", "names no extension"),
]


@pytest.mark.parametrize(("part", "old", "new", "state", "problem"), DAMAGES)
def test_damage_is_found_and_mended(
    host: Host, folders: HostFolders, part: str, old: str, new: str, state: str, problem: str
) -> None:
    host.install(ids(ONE))
    file = {
        "manifest": chrome_manifest(folders),
        "shim": folders.host / "shim.py",
        "launcher": host.launcher,
        "own manifest": folders.host / "com.tabagent.host.json",
    }[part]
    old = old.replace(SELF, str(host.launcher))
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    (finding,) = [finding for finding in problems(host) if finding.target == str(file)]
    assert finding.state == state
    assert problem in str(finding.problem)
    assert str(finding.remedy).startswith("tabagent host install")
    host.install(ids(ONE))
    assert problems(host) == []


def test_a_missing_shim_is_found_and_mended(host: Host, folders: HostFolders) -> None:
    host.install(ids(ONE))
    (folders.host / "shim.py").unlink()
    assert [finding.problem for finding in problems(host)] == ["is missing"]
    host.install(Extensions())
    assert problems(host) == []


def test_a_launcher_that_cannot_run_is_found_and_mended(host: Host) -> None:
    host.install(ids(ONE))
    host.launcher.chmod(0o644)
    assert [finding.problem for finding in problems(host)] == ["is not executable"]
    host.install(Extensions())
    assert problems(host) == []


def test_the_launcher_hands_over_every_argument(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder with $(signs)"
    folder.mkdir()
    (folder / "shim.py").write_text(
        "import os, sys\ndef main(): print([*sys.argv[1:], os.environ.get('TABAGENT_HOME')])\n"
    )
    launcher = tmp_path / "launch"
    for home in (None, "/home of 'x'"):
        launcher.write_text(
            launcher_text("linux", sys.executable, folder / "shim.py", Path("/state $x"), home)
        )
        command = ["/bin/sh", str(launcher), "chrome-extension://x/", "a b"]
        environment = {"TABAGENT_HOME": "/of the browser"}
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        assert done.stdout.decode().strip() == str(
            ["/state $x", "chrome-extension://x/", "a b", home]
        )


@pytest.mark.parametrize(
    ("platform", "interpreter"),
    [
        ("linux", "/it's/a python"),
        ("darwin", "/usr/bin/python3"),
        ("win32", r"C:\50% py\python.exe"),
    ],
)
def test_the_interpreter_can_be_read_back(platform: Platform, interpreter: str) -> None:
    text = launcher_text(platform, interpreter, Path("/h/shim.py"), Path("/s"), "/home")
    assert recorded_interpreter(text) == interpreter
    assert recorded_interpreter("something else") is None


def test_a_batch_file_escapes_what_cmd_would_expand() -> None:
    text = launcher_text("win32", "C:\\py.exe", Path("C:/h/shim.py"), Path("C:/ü %x%"), None)
    assert "chcp 65001" in text
    assert '"C:/ü %%x%%"' in text.replace("\\", "/")
    assert text.endswith(" %*\r\n")
    assert shlex.split(text.splitlines()[-1].replace("\\", "/"))[1] == "-IS"
