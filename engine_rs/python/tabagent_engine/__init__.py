"""Runs GGUF models in-process through libllama and streams their tokens."""

from __future__ import annotations

from tabagent_engine._native import (
    GgufEngine,
    __version__,
    advise_runtime,
    detect_hardware,
    inspect_gguf,
    list_runtimes,
    prune_transcoded,
    render_template,
)
from tabagent_engine.errors import EngineError
from tabagent_engine.handler import GGUFHandler, load_model

__all__ = [
    "EngineError",
    "GGUFHandler",
    "GgufEngine",
    "__version__",
    "advise_runtime",
    "detect_hardware",
    "inspect_gguf",
    "list_runtimes",
    "load_model",
    "prune_transcoded",
    "render_template",
]
