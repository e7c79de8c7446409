"""Runs GGUF models in-process through libllama and streams their tokens."""

from __future__ import annotations

from tabagent_engine._native import (
    EngineError,
    GgufEngine,
    __version__,
    detect_hardware,
    inspect_gguf,
    list_runtimes,
    render_template,
)

__all__ = [
    "EngineError",
    "GgufEngine",
    "__version__",
    "detect_hardware",
    "inspect_gguf",
    "list_runtimes",
    "render_template",
]
