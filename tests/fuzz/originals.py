"""The good files a campaign starts from: tokenizers, architectures and tensor types, all tiny."""

from __future__ import annotations

import copy
import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from gguf import GGMLQuantizationType, quants

from tests.gguf_fixtures import DIM, FEED_FORWARD, HEAD_DIM, HEADS, KV_HEADS, LAYERS, write_tiny

from .gguf_file import (
    ARRAY,
    I2_S,
    I32,
    STRING,
    TAIL,
    U16,
    U32,
    GgufFile,
    Items,
    Tensor,
    data_size,
    decode,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOCABULARY: Final = 384
EXPERTS: Final = 4


def spm(folder: Path) -> GgufFile:
    """A llama with a SentencePiece vocabulary, F32."""
    return decode(write_tiny(folder / "tiny.gguf", vocab_size=VOCABULARY).read_bytes())


def bpe(folder: Path) -> GgufFile:
    """A qwen2, whose attention has biases, with a byte-level BPE vocabulary."""
    file = _renamed(spm(folder), "qwen2")
    alphabet = _byte_characters()
    merges = [first + second for first in alphabet[65:75] for second in alphabet[97:105]]
    tokens = [*alphabet, *merges]
    tokens += [
        "<|im_start|>",
        "<|im_end|>",
        *(f"<|{n}|>" for n in range(VOCABULARY - len(tokens) - 2)),
    ]
    controls = VOCABULARY - len(alphabet) - len(merges)
    file.set("tokenizer.ggml.model", STRING, b"gpt2")
    file.set("tokenizer.ggml.pre", STRING, b"qwen2")
    file.set("tokenizer.ggml.tokens", ARRAY, Items(STRING, [token.encode() for token in tokens]))
    types: list[int | float | bool | bytes] = [1] * (VOCABULARY - controls)
    file.set("tokenizer.ggml.token_type", ARRAY, Items(I32, types + [3] * controls))
    pairs: list[int | float | bool | bytes] = [f"{pair[0]} {pair[1]}".encode() for pair in merges]
    file.set("tokenizer.ggml.merges", ARRAY, Items(STRING, pairs))
    file.pairs = [pair for pair in file.pairs if pair.key != b"tokenizer.ggml.scores"]
    file.set("tokenizer.ggml.eos_token_id", U32, tokens.index("<|im_end|>"))
    file.set("tokenizer.ggml.bos_token_id", U32, tokens.index("<|im_start|>"))
    for layer in range(LAYERS):
        for name, size in (
            ("q", HEADS * HEAD_DIM),
            ("k", KV_HEADS * HEAD_DIM),
            ("v", KV_HEADS * HEAD_DIM),
        ):
            file.tensors.append(_noise(f"blk.{layer}.attn_{name}.bias", [size]))
    return file


def quantised(folder: Path) -> GgufFile:
    """The SentencePiece model with a different simple quantisation in every matrix."""
    file = spm(folder)
    types = [
        GGMLQuantizationType[name]
        for name in ("Q8_0", "Q4_0", "Q5_1", "F16", "Q4_1", "BF16", "Q5_0")
    ]
    matrices = [tensor for tensor in file.tensors if len(tensor.shape) == 2]
    for index, tensor in enumerate(matrices):
        weights = np.frombuffer(tensor.data, dtype=np.float32).reshape(tensor.shape[::-1])
        tensor.type_id = types[index % len(types)]
        tensor.data = quants.quantize(weights, types[index % len(types)]).tobytes()
    return file


def k_quants(folder: Path) -> GgufFile:
    """A wider llama of K-quants, IQ and ternary types, whose blocks hold 256 weights."""
    file = spm(folder)
    file.set("llama.embedding_length", U32, 256)
    file.set("llama.feed_forward_length", U32, 256)
    file.set("llama.attention.head_count", U32, 4)
    file.set("llama.rope.dimension_count", U32, 64)
    wide = {DIM: 256, FEED_FORWARD: 256, KV_HEADS * HEAD_DIM: 128}
    types = (12, 14, 10, 11, 13, 18, 23, 35)
    for index, tensor in enumerate(file.tensors):
        tensor.shape = [wide.get(size, size) for size in tensor.shape]
        if len(tensor.shape) == 2:
            tensor.type_id = types[index % len(types)]
        # Zeros are a block of zeros in all of these types.
        tensor.data = bytes(data_size(tensor.shape, tensor.type_id))
    return file


def ternary(folder: Path) -> GgufFile:
    """The wider llama with I2_S matrices, which are transcoded before the library sees them."""
    file = k_quants(folder)
    for tensor in file.tensors:
        if tensor.name.startswith(b"blk.") and len(tensor.shape) == 2:
            tensor.type_id = I2_S
            codes = data_size(tensor.shape, I2_S) - TAIL
            tensor.data = bytes([0b01100001]) * codes + struct.pack("<f", 0.02).ljust(TAIL, b"\0")
    return file


def experts(folder: Path) -> GgufFile:
    """A qwen3moe: expert tensors of three dimensions, normed heads."""
    file = _renamed(spm(folder), "qwen3moe")
    for key, value in (("expert_count", EXPERTS), ("expert_used_count", 2)):
        file.set(f"qwen3moe.{key}", U32, value)
    file.set("qwen3moe.expert_feed_forward_length", U32, 32)
    for key in ("key_length", "value_length"):
        file.set(f"qwen3moe.attention.{key}", U32, HEAD_DIM)
    file.tensors = [
        tensor for tensor in file.tensors if b".ffn_" not in tensor.name or b"norm" in tensor.name
    ]
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        file.tensors += [
            _noise(f"{block}.attn_q_norm.weight", [HEAD_DIM]),
            _noise(f"{block}.attn_k_norm.weight", [HEAD_DIM]),
            _noise(f"{block}.ffn_gate_inp.weight", [DIM, EXPERTS]),
            _noise(f"{block}.ffn_gate_exps.weight", [DIM, 32, EXPERTS]),
            _noise(f"{block}.ffn_up_exps.weight", [DIM, 32, EXPERTS]),
            _noise(f"{block}.ffn_down_exps.weight", [32, DIM, EXPERTS]),
        ]
    return file


def sliding(folder: Path) -> GgufFile:
    """A gemma3: sliding windows, norms after the blocks, a tied head."""
    file = _renamed(spm(folder), "gemma3")
    file.set("gemma3.attention.sliding_window", U32, 16)
    for key in ("key_length", "value_length"):
        file.set(f"gemma3.attention.{key}", U32, HEAD_DIM)
    file.tensors = [tensor for tensor in file.tensors if tensor.name != b"output.weight"]
    for layer in range(LAYERS):
        for name, size in (
            ("attn_q_norm", HEAD_DIM),
            ("attn_k_norm", HEAD_DIM),
            ("post_attention_norm", DIM),
            ("post_ffw_norm", DIM),
        ):
            file.tensors.append(_noise(f"blk.{layer}.{name}.weight", [size]))
    return file


def recurrent(folder: Path) -> GgufFile:
    """A mamba: no attention, a state per sequence."""
    file = _renamed(spm(folder), "mamba")
    for key, value in (
        ("conv_kernel", 4),
        ("inner_size", 128),
        ("state_size", 8),
        ("time_step_rank", 4),
    ):
        file.set(f"mamba.ssm.{key}", U32, value)
    for name in ("head_count", "head_count_kv"):
        file.set(f"mamba.attention.{name}", U32, 0)
    file.tensors = [
        tensor
        for tensor in file.tensors
        if b"blk." not in tensor.name or b"attn_norm" in tensor.name
    ]
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        file.tensors += [
            _noise(f"{block}.ssm_in.weight", [DIM, 256]),
            _noise(f"{block}.ssm_conv1d.weight", [4, 128]),
            _noise(f"{block}.ssm_conv1d.bias", [128]),
            _noise(f"{block}.ssm_x.weight", [128, 4 + 16]),
            _noise(f"{block}.ssm_dt.weight", [4, 128]),
            _noise(f"{block}.ssm_dt.bias", [128]),
            _noise(f"{block}.ssm_a", [8, 128]),
            _noise(f"{block}.ssm_d", [128]),
            _noise(f"{block}.ssm_out.weight", [128, DIM]),
        ]
    return file


def split(folder: Path) -> list[GgufFile]:
    """The SentencePiece model in two files."""
    first = spm(folder)
    second = GgufFile([], first.tensors[8:])
    first.set("split.tensors.count", I32, len(first.tensors))
    first.tensors = first.tensors[:8]
    for number, file in enumerate((first, second)):
        file.set("split.no", U16, number)
        file.set("split.count", U16, 2)
    return [first, second]


ORIGINALS: Final[dict[str, Callable[[Path], GgufFile | list[GgufFile]]]] = {
    each.__name__: each
    for each in (spm, bpe, quantised, k_quants, ternary, experts, sliding, recurrent, split)
}
"""A file by name, or all files of a split model."""


def written(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files of a model; return the one to open."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / next(iter(files))


def file_names(stem: str, count: int) -> list[str]:
    """What the files of a model must be called."""
    if count == 1:
        return [f"{stem}.gguf"]
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def _renamed(file: GgufFile, architecture: str) -> GgufFile:
    file = copy.deepcopy(file)
    old = file.architecture().encode()
    for pair in file.pairs:
        if pair.key.startswith(old + b"."):
            pair.key = architecture.encode() + pair.key[len(old) :]
    file.set("general.architecture", STRING, architecture.encode())
    return file


def _noise(name: str, shape: list[int]) -> Tensor:
    weights = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32) * 0.1
    return Tensor(name.encode(), shape, 0, weights.tobytes())


def _byte_characters() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level BPE."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
