"""Gets model files from the Hugging Face Hub. Importing this does not import `huggingface_hub`."""

from __future__ import annotations

from .reference import Reference, parse_reference

__all__ = ["Reference", "parse_reference"]
