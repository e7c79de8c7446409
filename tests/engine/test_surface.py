"""The package's public names, and that they come in the wheel's metadata version."""

from __future__ import annotations

import importlib.metadata

import tabagent_engine
from tabagent_engine import EngineError


def test_the_public_names_are_those_of_the_contract() -> None:
    promised = {
        "GGUFHandler",
        "GgufEngine",
        "detect_hardware",
        "inspect_gguf",
        "list_runtimes",
        "load_model",
        "render_template",
    }
    assert promised <= set(tabagent_engine.__all__)
    assert list(tabagent_engine.__all__) == sorted(tabagent_engine.__all__)
    assert all(hasattr(tabagent_engine, name) for name in tabagent_engine.__all__)


def test_the_native_module_is_of_the_installed_version() -> None:
    assert tabagent_engine.__version__ == importlib.metadata.version("tabagent-engine")


def test_an_error_carries_code_and_parameter() -> None:
    error = EngineError("invalid_parameter", "top_p must be at most 1", "top_p")
    assert (str(error), error.code, error.param) == (
        "top_p must be at most 1",
        "invalid_parameter",
        "top_p",
    )
