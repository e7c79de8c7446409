"""Gives tests a Vulkan device, or none; the bundled runtime has a module for either.

Mesa's software device will do (Debian: libvulkan1, mesa-vulkan-drivers): the runtime takes it when
it is named. Drivers run in processes of their own.
"""

from __future__ import annotations

import os
from typing import Final

import pytest
from tabagent_engine import EngineError, list_runtimes
from tabagent_engine.gpus import gpu_devices

__all__ = ["RUNTIME", "hide_vulkan_devices", "show_vulkan_device"]

RUNTIME: Final = "mineru"


def show_vulkan_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes have a Vulkan device, be it one of software; skip the test where none is."""
    if os.environ.get("GGML_VK_VISIBLE_DEVICES") is None:
        monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("LP_NUM_THREADS", "1")
    try:
        gpu_devices(RUNTIME)
    except EngineError as error:
        pytest.skip(f"no Vulkan device: {error}")


def hide_vulkan_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes find no Vulkan driver; skip the test where the runtime has no use for one."""
    monkeypatch.setenv("VK_DRIVER_FILES", os.devnull)
    monkeypatch.setenv("VK_ICD_FILENAMES", os.devnull)  # its name until 2022
    if not any("vulkan" in each["gpu"] for each in list_runtimes(RUNTIME)):
        pytest.skip("the bundled runtime has no Vulkan module here")
