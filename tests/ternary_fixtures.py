"""Ternary models that tests make for themselves: the same weights as I2_S and as F32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

if TYPE_CHECKING:
    from tests.gguf_fixtures import Array

REFERENCE: Final = next(
    (
        folder
        for parent in Path(__file__).resolve().parents
        if (folder := parent / "shared" / "data" / "bitnet").is_dir()
    ),
    None,
)
"""Files of the original BitNet code and the logits it computes for them; None without them."""

I2_S: Final = cast("GGMLQuantizationType", 36)
DIM, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, LAYERS, VOCAB = 256, 4, 2, 64, 384, 2, 384
"""Rows of the feed-forward's second matrix are no multiple of 256."""

Architecture = Literal["llama", "bitnet", "bitnet-b1.58", "bitnet-25"]


def write_ternary(
    path: Path,
    architecture: Architecture = "llama",
    encoding: Literal["I2_S", "F32"] = "I2_S",
) -> Path:
    """Write a model of random ternary weights, the same ones whatever their encoding."""
    rng = np.random.default_rng(3)
    writer = GGUFWriter(path, architecture)
    _add_metadata(writer)
    data: list[np.ndarray[Any, Any]] = []

    def add(name: str, tensor: Array) -> None:
        writer.add_tensor_info(name, tensor.shape, tensor.dtype, tensor.nbytes)
        data.append(tensor)

    def add_matrix(name: str, rows: int, columns: int) -> None:
        values = rng.integers(-1, 2, (rows, columns), dtype=np.int8)
        scale = np.float32(rng.uniform(0.7, 1.3) / np.sqrt(columns))
        if encoding == "F32":
            add(name, values * scale)
        else:
            packed = i2_s(values, scale)
            writer.add_tensor_info(name, values.shape, values.dtype, packed.nbytes, I2_S)
            data.append(packed)

    # The head is tied to it: logits get a standard deviation of about 3, as in trained models.
    embeddings = rng.standard_normal((VOCAB, DIM), dtype=np.float32)
    add("token_embd.weight", embeddings * np.float32(3 / np.sqrt(DIM)))
    for layer in range(LAYERS):
        _add_layer(f"blk.{layer}", architecture, add, add_matrix)
    add("output_norm.weight", np.ones(DIM, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in data:
        writer.write_tensor_data(tensor)
    writer.close()
    return path


def i2_s(values: np.ndarray[Any, np.dtype[np.int8]], scale: np.float32) -> np.ndarray[Any, Any]:
    """Pack -1, 0 and 1: 128 in 32 bytes, the first 32 in the highest bits; the scale in a tail."""
    codes = (values + 1).astype(np.uint8).reshape(-1, 4, 32)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    tail = np.zeros(32, dtype=np.uint8)
    tail[:4] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
    return np.concatenate([packed.reshape(-1), tail])


def _add_layer(block: str, architecture: str, add: Any, add_matrix: Any) -> None:
    add(f"{block}.attn_norm.weight", np.ones(DIM, dtype=np.float32))
    add_matrix(f"{block}.attn_q.weight", HEADS * HEAD_DIM, DIM)
    add_matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD_DIM, DIM)
    add_matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD_DIM, DIM)
    add_matrix(f"{block}.attn_output.weight", DIM, HEADS * HEAD_DIM)
    add(f"{block}.ffn_norm.weight", np.ones(DIM, dtype=np.float32))
    add_matrix(f"{block}.ffn_gate.weight", FEED_FORWARD, DIM)
    add_matrix(f"{block}.ffn_up.weight", FEED_FORWARD, DIM)
    add_matrix(f"{block}.ffn_down.weight", DIM, FEED_FORWARD)
    if architecture != "llama":
        add(f"{block}.attn_sub_norm.weight", np.ones(HEADS * HEAD_DIM, dtype=np.float32))
        add(f"{block}.ffn_sub_norm.weight", np.ones(FEED_FORWARD, dtype=np.float32))


def _add_metadata(writer: GGUFWriter) -> None:
    writer.add_name("ternary")
    writer.add_context_length(512)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(40)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"▁{number}" for number in range(VOCAB - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(VOCAB)])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (VOCAB - 259)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
