"""The machine in a few lines, for machines that are not at hand."""

from __future__ import annotations

from typing import Any

from tabagent.cli.hardware import hardware_pairs

GIBIBYTE = 1 << 30

HYBRID: dict[str, Any] = {
    "cpu": {
        "vendor": "GenuineIntel",
        "family": 6,
        "model": 183,
        "stepping": 1,
        "name": "Core i9-13900K",
        "microarchitecture": "Raptor Lake",
        "flags": ["avx2", "avxvnni"],
        "cores": 24,
        "threads": 2,
        "allowed": 16,
        "quota": 2.5,
        "kinds": [
            {"kind": "performance", "cores": 8, "threads": 16, "usable": 8},
            {"kind": "efficiency", "cores": 16, "threads": 16, "usable": 0},
        ],
        "caches": [
            {"level": 1, "purpose": "data", "bytes": 32768, "count": 16},
            {"level": 1, "purpose": "data", "bytes": 49152, "count": 8},
            {"level": 3, "purpose": "unified", "bytes": 36 << 20, "count": 1},
        ],
    },
    "memory": {"total": 4 * GIBIBYTE, "available": GIBIBYTE, "limit": 4 * GIBIBYTE},
    "gpus": [
        {"vendor": "AMD", "name": "Navi 31", "driver": "amdgpu", "memory": 24 * GIBIBYTE},
        {"vendor": "NVIDIA", "name": "RTX 4090", "driver": None, "memory": None},
    ],
    "threads": {"count": 1, "reason": "a quota of 2.5 processors"},
}


def test_a_hybrid_processor_in_a_container_is_told_in_full() -> None:
    lines = dict(hardware_pairs(HYBRID))
    expected = "Core i9-13900K, Raptor Lake (family 6, model 183, stepping 1)"
    assert lines["processor"] == expected
    assert lines["cores"] == "8 performance + 16 efficiency, with 32 threads"
    limits = "16 threads by affinity, 2.5 processors by control group"
    assert lines["limits"] == f"{limits}, 4.0 GiB of memory by control group"
    assert lines["caches"] == "L1 16×32.0 KiB data + 8×48.0 KiB data, L3 36.0 MiB"
    assert lines["GPUs"] == "Navi 31 (AMD, amdgpu, 24.0 GiB); RTX 4090 (NVIDIA, no driver)"
    assert lines["threads"] == "1 to compute with: a quota of 2.5 processors"


def test_a_machine_without_limits_and_gpus_says_so() -> None:
    cpu = {**HYBRID["cpu"], "allowed": 32, "quota": None, "family": 0, "caches": []}
    memory = {**HYBRID["memory"], "limit": None}
    lines = dict(hardware_pairs({**HYBRID, "cpu": cpu, "memory": memory, "gpus": []}))
    assert (lines["limits"], lines["GPUs"], lines["caches"]) == ("none", "none", "unknown")
    assert lines["processor"] == "Core i9-13900K, Raptor Lake"


def test_without_the_engine_nothing_is_known() -> None:
    absent: dict[str, Any] = {"cpu": None, "memory": None, "gpus": [], "threads": None}
    assert hardware_pairs(absent) == [("processor", "unknown: the engine is not installed")]
