"""The models that the benchmark makes for itself: random weights, the sizes of real ones."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 32  # weights in one Q4_0 block: a float16 scale and 16 bytes of nibbles


@dataclasses.dataclass(frozen=True)
class Shape:
    """The dimensions of a llama-architecture model."""

    name: str
    layers: int
    dim: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocab: int
    quantised: bool


SHAPES = (
    # Only overhead counts: a token costs a fraction of a millisecond.
    Shape("tiny", 2, 64, 128, 4, 2, 512, quantised=False),
    # The dimensions of a 0.5B-class model, at 4 bits.
    Shape("0.5B-Q4_0", 24, 896, 4864, 14, 2, 32_000, quantised=True),
)


def write_model(shape: Shape, folder: Path) -> Path:
    """Write the model of that shape, unless it is there already, and return its path."""
    path = folder / f"bench-{shape.name}.gguf"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    writer = GGUFWriter(partial, "llama")
    add_header(writer, shape)
    _add_tensors(writer, shape, np.random.default_rng(11))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.rename(path)


def add_header(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name(shape.name)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.dim // shape.heads)
    writer.add_vocab_size(shape.vocab)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    # A word is reached by merging its characters one by one, so it is one token in a prompt.
    tokens += ["▁", "w", *"0123456789", "▁w"]
    tokens += [f"▁w{index}" for index in range(shape.vocab - len(tokens))]
    types += [TokenType.NORMAL] * (len(tokens) - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")


def _add_tensors(writer: GGUFWriter, shape: Shape, rng: np.random.Generator) -> None:
    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(shape.dim, dtype=np.float32))

    def matrix(name: str, rows: int, columns: int) -> None:
        if shape.quantised:
            writer.add_tensor(
                name, _random_q4_0(rng, rows, columns), raw_dtype=GGMLQuantizationType.Q4_0
            )
        else:
            weights = rng.standard_normal((rows, columns)) / np.sqrt(columns)
            writer.add_tensor(name, weights.astype(np.float32))

    head_dim = shape.dim // shape.heads
    matrix("token_embd.weight", shape.vocab, shape.dim)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight")
        matrix(f"{block}.attn_q.weight", shape.dim, shape.dim)
        matrix(f"{block}.attn_k.weight", shape.kv_heads * head_dim, shape.dim)
        matrix(f"{block}.attn_v.weight", shape.kv_heads * head_dim, shape.dim)
        matrix(f"{block}.attn_output.weight", shape.dim, shape.dim)
        norm(f"{block}.ffn_norm.weight")
        matrix(f"{block}.ffn_gate.weight", shape.feed_forward, shape.dim)
        matrix(f"{block}.ffn_up.weight", shape.feed_forward, shape.dim)
        matrix(f"{block}.ffn_down.weight", shape.dim, shape.feed_forward)
    norm("output_norm.weight")
    matrix("output.weight", shape.vocab, shape.dim)


def _random_q4_0(rng: np.random.Generator, rows: int, columns: int) -> Any:
    """Random Q4_0 rows whose weights have the variance of a trained layer's."""
    blocks = columns // BLOCK
    # Nibbles of 1 to 15 stand for -7 to 7: no mean, a standard deviation of 4.3 quanta.
    nibbles = rng.integers(1, 16, (2, rows, blocks, 2 + BLOCK // 2), dtype=np.uint8)
    packed = nibbles[0] | nibbles[1] << 4
    scale = np.float16(1.0 / (4.3 * np.sqrt(columns)))
    packed[:, :, :2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
    return packed.reshape(rows, blocks * (2 + BLOCK // 2))
