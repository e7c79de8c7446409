"""What the original BitNet code computes for its files, and how close an engine must come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Logits = np.ndarray[Any, np.dtype[np.float64]]

MIN_COSINE = 0.998
"""The original's own distance between its two encodings of the same weights."""
CLEAR_LEAD = 0.3
"""A lead of the likeliest token, in logits, that rounding does not turn."""


class ReferenceLogits:
    """Logits after each token of one prompt, of the same weights in full precision."""

    def __init__(self, folder: Path, name: str) -> None:
        known = np.load(folder / f"{name}-logits.npz")
        self.model = folder / f"{name}-i2_s.gguf"
        self.prompt: list[int] = known["prompt_tokens"].tolist()
        self._logits: Logits = known["f32"].astype(np.float64)
        self.vocab_size = len(self._logits[0])

    def compare(self, position: int, logprobs: Mapping[int, float]) -> None:
        """Assert that log-probabilities of all tokens are those after that many tokens."""
        expected = self._logits[position - 1]
        assert len(logprobs) == len(expected)
        told = np.array([logprobs[token] for token in range(len(expected))])
        assert cosine(told, expected) >= MIN_COSINE, position
        second, best = np.sort(expected)[-2:]
        if best - second > CLEAR_LEAD:
            assert told.argmax() == expected.argmax(), position


def cosine(one: Logits, other: Logits) -> float:
    """Of what logits and log-probabilities have in common: their distances from their means."""
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
