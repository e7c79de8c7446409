"""Learns the guide's vocabulary: byte-pair merges, stored as SentencePiece scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import gguf

if TYPE_CHECKING:
    from collections.abc import Mapping

SPACE = "\u2581"
LONGEST_PIECE = 20
END_OF_ANSWER = 2
SPECIAL = ("<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>")
PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces with their SentencePiece scores and token types; the index is the token id."""

    pieces: list[str]
    scores: list[float]
    types: list[int]


def learn(texts: Mapping[str, int], size: int) -> Vocabulary:
    """Learns a vocabulary of `size` pieces from texts and how often each counts."""
    words: Counter[tuple[str, ...]] = Counter()
    for text, count in texts.items():
        for word in text.replace(" ", f" {SPACE}").split(" "):
            words[tuple(word)] += count
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, *PRINTABLE]
    merges = _merges(words, size - len(pieces))
    kinds = gguf.TokenType
    types = [kinds.UNKNOWN, *[kinds.CONTROL] * (len(SPECIAL) - 1), *[kinds.BYTE] * 256]
    types += [kinds.NORMAL] * (size - len(types))
    # A merge learnt earlier must win, so its score is the higher one.
    scores = [0.0] * len(SPECIAL) + [0.0] * 256 + [-1e6] * (1 + len(PRINTABLE))
    scores += [-float(rank) for rank in range(len(merges))]
    return Vocabulary(pieces + merges, scores, [int(kind) for kind in types])


def _merges(words: Counter[tuple[str, ...]], wanted: int) -> list[str]:
    merges: dict[str, None] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    for word, count in words.items():
        _add_pairs(pairs, word, count)
    while len(merges) < wanted:
        short = (pair for pair in pairs if len(pair[0] + pair[1]) <= LONGEST_PIECE)
        left, right = max(short, key=lambda pair: (pairs[pair], pair))
        # Two pairs may spell the same piece; the vocabulary holds it once.
        merges[left + right] = None
        for word in [word for word in words if left in word and right in word]:
            joined = _joined(word, left, right)
            if joined != word:
                count = words.pop(word)
                words[joined] += count
                _add_pairs(pairs, word, -count)
                _add_pairs(pairs, joined, count)
    return list(merges)


def _add_pairs(pairs: Counter[tuple[str, str]], word: tuple[str, ...], count: int) -> None:
    for pair in pairwise(word):
        pairs[pair] += count


def _joined(word: tuple[str, ...], left: str, right: str) -> tuple[str, ...]:
    out: list[str] = []
    for symbol in word:
        if symbol == right and out and out[-1] == left:
            out[-1] = left + right
        else:
            out.append(symbol)
    return tuple(out)
