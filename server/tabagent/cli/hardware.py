"""The machine in a few lines for people."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from .output import size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["hardware_pairs"]


def hardware_pairs(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what `GET /v1/system` says of processor, memory, GPUs and threads."""
    cpu, memory, threads = found["cpu"], found["memory"], found["threads"]
    if not (cpu and memory and threads):
        return [("processor", "unknown: the engine is not installed")]
    return [
        ("processor", _processor(cpu)),
        ("cores", _cores(cpu)),
        ("limits", _limits(cpu, memory)),
        ("caches", _caches(cpu["caches"])),
        ("extensions", " ".join(cpu["flags"]) or "none that a runtime asks for"),
        ("memory", f"{size(memory['available'])} available of {size(memory['total'])}"),
        ("GPUs", "; ".join(map(_gpu, found["gpus"])) or "none"),
        ("threads", f"{threads['count']} to compute with: {threads['reason']}"),
    ]


def _processor(cpu: Mapping[str, Any]) -> str:
    name = cpu["name"] or cpu["vendor"] or "unknown"
    generation = f", {cpu['microarchitecture']}" if cpu["microarchitecture"] else ""
    if not cpu["family"]:
        return f"{name}{generation}"
    numbers = f"family {cpu['family']}, model {cpu['model']}, stepping {cpu['stepping']}"
    return f"{name}{generation} ({numbers})"


def _cores(cpu: Mapping[str, Any]) -> str:
    kinds = cpu["kinds"]
    threads = sum(kind["threads"] for kind in kinds)
    if len(kinds) == 1:
        return f"{kinds[0]['cores']}, with {threads} threads"
    told = " + ".join(f"{kind['cores']} {kind['kind']}" for kind in kinds)
    return f"{told}, with {threads} threads"


def _limits(cpu: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    told = []
    if cpu["allowed"] < sum(kind["threads"] for kind in cpu["kinds"]):
        told.append(f"{cpu['allowed']} threads by affinity")
    if cpu["quota"] is not None:
        told.append(f"{cpu['quota']:g} processors by control group")
    if memory["limit"] is not None:
        told.append(f"{size(memory['limit'])} of memory by control group")
    return ", ".join(told) or "none"


def _caches(caches: Sequence[Mapping[str, Any]]) -> str:
    levels = [
        f"L{level} " + " + ".join(map(_cache, same))
        for level, same in groupby(caches, key=lambda cache: cache["level"])
    ]
    return ", ".join(levels) or "unknown"


def _cache(cache: Mapping[str, Any]) -> str:
    count = f"{cache['count']}×" if cache["count"] > 1 else ""
    purpose = "" if cache["purpose"] == "unified" else f" {cache['purpose']}"
    return f"{count}{size(cache['bytes'])}{purpose}"


def _gpu(gpu: Mapping[str, Any]) -> str:
    memory = "" if gpu["memory"] is None else f", {size(gpu['memory'])}"
    driver = "no driver" if gpu["driver"] is None else gpu["driver"]
    return f"{gpu['name']} ({gpu['vendor']}, {driver}{memory})"
