"""What this machine can run, and why: the answer of `doctor` and of `GET /v1/system`."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from . import __version__

if TYPE_CHECKING:
    from .core.backend import BackendConfig
    from .registry import Registry

__all__ = ["system_info"]


_ASKING_DRIVERS: Final = Lock()


def system_info(registry: Registry, config: BackendConfig) -> dict[str, Any]:
    """Look at the machine, the runtimes and the plugins; blocks for some tens of milliseconds.

    The first time it asks GPU drivers too, which may take some seconds.
    """
    runtimes = _runtimes(config.runtime)
    return {
        "version": __version__,
        **_machine(config.threads),
        **runtimes,
        "advice": _advice(runtimes["runtime"]),
        "gpu_runtimes": _gpu_runtimes(runtimes["candidates"]),
        "backends": _backends(registry, config),
        "transports": _transports(registry),
    }


def _machine(threads: int | None) -> dict[str, Any]:
    try:
        from tabagent_engine import detect_hardware
    except ImportError:
        return {"cpu": None, "memory": None, "gpus": [], "threads": None}
    hardware = dict(detect_hardware())
    if threads is not None:
        hardware["threads"] = {"count": threads, "reason": "as the settings say"}
    return hardware


def _advice(runtime: dict[str, Any] | None) -> list[dict[str, Any]]:
    if runtime is None:
        return []
    from tabagent_engine import advise_runtime

    return [dict(each) for each in advise_runtime(runtime["variant"])]


def _runtimes(runtime: str | None) -> dict[str, Any]:
    try:
        from tabagent_engine import EngineError, list_runtimes
    except ImportError:
        return {"runtime": None, "candidates": []}
    try:
        found = list_runtimes(runtime)
    except EngineError as error:
        refused: dict[str, Any] = {
            "id": runtime,
            "path": runtime,
            "variant": "",
            "version": "",
            "allowed": False,
            "score": 0,
            "gpu": [],
        }
        return {"runtime": None, "candidates": [{**refused, "reason": str(error)}]}
    shown = ("id", "path", "variant", "version", "allowed", "score", "gpu", "reason")
    candidates = [{key: dict(each)[key] for key in shown} for each in found]
    chosen = next((dict(each) for each in found if each["chosen"]), None)
    if chosen is not None:
        chosen = {key: chosen[key] for key in ("id", "path", "variant", "version", "reason")}
    return {"runtime": chosen, "candidates": candidates}


def _gpu_runtimes(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runtimes with GPU modules that may run here, and the devices that each of them finds."""
    able = [each for each in candidates if each["gpu"] and each["allowed"]]
    runtimes = {each["path"]: each for each in able}.values()
    return [
        {"id": each["id"], "version": each["version"], "interfaces": each["gpu"], **found}
        for each in runtimes
        for found in [_devices(each["path"])]
    ]


def _devices(libllama: str) -> dict[str, Any]:
    with _ASKING_DRIVERS:
        return _devices_once(libllama)


@cache
def _devices_once(libllama: str) -> dict[str, Any]:
    from tabagent_engine import EngineError
    from tabagent_engine.gpus import gpu_devices

    try:
        found = gpu_devices(libllama)
    except EngineError as error:
        return {"devices": [], "reason": str(error)}
    shown = ("name", "description", "memory")
    return {"devices": [{key: dict(each)[key] for key in shown} for each in found], "reason": ""}


def _backends(registry: Registry, config: BackendConfig) -> list[dict[str, Any]]:
    reports = [
        {
            "name": name,
            "installed": health.installed,
            "version": health.version,
            "works": health.works,
            "reason": health.reason,
        }
        for name, backend in registry.backends().items()
        for health in [backend.health(config)]
    ]
    absent = {"installed": False, "version": None, "works": False}
    broken = registry.broken("tabagent.backends")
    return reports + [{"name": each.name, **absent, "reason": each.reason} for each in broken]


def _transports(registry: Registry) -> list[dict[str, Any]]:
    working = [{"name": name, "works": True, "reason": ""} for name in registry.listeners()]
    broken = registry.broken("tabagent.transports")
    return working + [{"name": each.name, "works": False, "reason": each.reason} for each in broken]
