"""The same random ternary weights for two graphs, each as libllama and as BitNet store them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from benchmarks.models import Shape, add_header

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape("0.7B-ternary", 24, 1536, 4096, 16, 16, 32_000, quantised=True)
"""The dimensions of bitnet_b1_58-large."""

I2_S = cast("GGMLQuantizationType", 36)
"""BitNet's own tensor type, which the format's registry does not have."""

# Every byte of four codes (0, 1, 2 for -1, 0, +1), as the two types order them.
_CODES = np.stack(np.unravel_index(np.arange(81), (3, 3, 3, 3))).astype(np.uint8)
_I2_S_BYTES = _CODES[0] << 6 | _CODES[1] << 4 | _CODES[2] << 2 | _CODES[3]
_TQ2_0_BYTES = _CODES[0] | _CODES[1] << 2 | _CODES[2] << 4 | _CODES[3] << 6


@dataclasses.dataclass(frozen=True)
class Pair:
    """One graph: the file that libllama loads by itself, and the one that is transcoded."""

    native: Path
    transcoded: Path


def write_models(folder: Path, shape: Shape = SHAPE) -> dict[str, Pair]:
    """Write the files that are not there yet; the keys are the graphs' architectures."""
    return {
        "llama": Pair(
            _write(folder, shape, "llama", "TQ2_0", _add_tq2_0),
            _write(folder, shape, "llama", "I2_S", _add_i2_s),
        ),
        # libllama's own graph has SiLU: what the model costs before its squared ReLU.
        "bitnet": Pair(
            _write(folder, shape, "bitnet", "TQ2_0", _add_tq2_0_and_scale),
            _write(folder, shape, "bitnet-b1.58", "I2_S", _add_i2_s),
        ),
    }


class _AddMatrix(Protocol):
    """Adds the matrix of those codes, 0 to 80 for each four weights, times a scale."""

    def __call__(
        self, writer: GGUFWriter, name: str, quads: np.ndarray[Any, Any], scale: np.float16
    ) -> None: ...


def _write(
    folder: Path, shape: Shape, architecture: str, kind: str, add_matrix: _AddMatrix
) -> Path:
    path = folder / f"bench-{shape.name}-{architecture}-{kind}.gguf"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    writer = GGUFWriter(partial, architecture)
    add_header(writer, shape)
    _add_tensors(writer, shape, add_matrix, sub_norms=architecture != "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.rename(path)


def _add_tensors(
    writer: GGUFWriter, shape: Shape, add_matrix: _AddMatrix, *, sub_norms: bool
) -> None:
    rng = np.random.default_rng(11)

    def norm(name: str, width: int = shape.dim) -> None:
        writer.add_tensor(name, np.ones(width, dtype=np.float32))

    def matrix(name: str, rows: int, columns: int) -> None:
        # Of three equally likely values the variance is 2/3.
        scale = np.float16(1 / np.sqrt(columns * 2 / 3))
        quads = rng.integers(81, size=(rows, columns // 128, 32), dtype=np.uint8)
        add_matrix(writer, name, quads, scale)

    embedding = rng.standard_normal((shape.vocab, shape.dim), dtype=np.float32)
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}.{name}", shape.dim, shape.dim)
        norm(f"{block}.ffn_norm.weight")
        if sub_norms:
            norm(f"{block}.attn_sub_norm.weight")
            norm(f"{block}.ffn_sub_norm.weight", shape.feed_forward)
        matrix(f"{block}.ffn_gate", shape.feed_forward, shape.dim)
        matrix(f"{block}.ffn_up", shape.feed_forward, shape.dim)
        matrix(f"{block}.ffn_down", shape.dim, shape.feed_forward)
    norm("output_norm.weight")


def _add_tq2_0(
    writer: GGUFWriter, name: str, quads: np.ndarray[Any, Any], scale: np.float16
) -> None:
    """Blocks of 256 weights: 64 bytes of codes and their scale."""
    rows = quads.shape[0]
    codes = _TQ2_0_BYTES[quads].reshape(rows, -1, 64)
    scales = np.frombuffer(scale.tobytes(), dtype=np.uint8)
    blocks = np.concatenate([codes, np.broadcast_to(scales, (*codes.shape[:2], 2))], axis=2)
    writer.add_tensor(
        f"{name}.weight", blocks.reshape(rows, -1), raw_dtype=GGMLQuantizationType.TQ2_0
    )


def _add_tq2_0_and_scale(
    writer: GGUFWriter, name: str, quads: np.ndarray[Any, Any], scale: np.float16
) -> None:
    _add_tq2_0(writer, name, quads, np.float16(1))
    writer.add_tensor(f"{name}.scale", np.array([scale], dtype=np.float32))


def _add_i2_s(
    writer: GGUFWriter, name: str, quads: np.ndarray[Any, Any], scale: np.float16
) -> None:
    """All codes of the tensor, then 32 bytes that begin with its one scale."""
    tail = np.zeros(8, dtype=np.float32)
    tail[0] = scale
    data = np.concatenate([_I2_S_BYTES[quads].ravel(), tail.view(np.uint8)])
    shape = (quads.shape[0], quads.shape[1] * 128)
    writer.add_tensor(f"{name}.weight", data.view(np.int8), raw_shape=shape, raw_dtype=I2_S)
