"""What the native module says of this machine, against what the kernel says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tabagent_engine import advise_runtime, detect_hardware

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

KERNEL_NAMES = {
    "sse4.2": "sse4_2",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "bmi1": "bmi1",
    "bmi2": "bmi2",
    "lzcnt": "abm",
    "sse4a": "sse4a",
    "avxvnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512vbmi": "avx512vbmi",
    "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16",
    "amx-int8": "amx_int8",
    "dotprod": "asimddp",
    "fp16": "asimdhp",
    "i8mm": "i8mm",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}


@linux
def test_flags_are_those_that_the_kernel_lists() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    ours = set(detect_hardware()["cpu"]["flags"])
    listed = {flag for flag, name in KERNEL_NAMES.items() if name in words}
    assert ours & KERNEL_NAMES.keys() == listed


@linux
def test_threads_are_no_more_than_the_affinity_allows() -> None:
    assert 1 <= detect_hardware()["cpu"]["threads"] <= len(os.sched_getaffinity(0))


@linux
def test_memory_is_no_more_than_the_machine_has() -> None:
    memory = detect_hardware()["memory"]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory["available"] <= memory["total"] <= total


def test_the_processor_has_a_name() -> None:
    assert detect_hardware()["cpu"]["name"]


@linux
def test_cores_and_threads_by_kind_are_those_that_the_kernel_lists() -> None:
    cpu = detect_hardware()["cpu"]
    topologies = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/core_cpus_list"))
    cores = {file.read_text() for file in topologies}
    assert sum(kind["cores"] for kind in cpu["kinds"]) == cpu["cores"] == len(cores)
    assert sum(kind["threads"] for kind in cpu["kinds"]) == len(topologies)


@linux
def test_one_allowed_processor_leaves_one_usable_core() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from tabagent_engine import detect_hardware; found = detect_hardware();"
        "kinds = found['cpu']['kinds'];"
        "print(sum(kind['usable'] for kind in kinds), found['threads']['count'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


def test_what_an_older_runtime_lacks_is_told_with_figures() -> None:
    flags = detect_hardware()["cpu"]["flags"]
    advice = advise_runtime("sse42")
    assert bool(advice) == ("avx2" in flags)
    assert all(gain["prompt"] > 1 for each in advice for gain in each["gains"])
    assert advise_runtime("no such variant") == []
