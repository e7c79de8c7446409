"""GGUF files that tests make for themselves, each in well under a second.

`write_tiny` gives random weights, `write_chain` a model whose greedy answer is known in advance
although attention and the KV cache really run, and `BROKEN_FILES` what must be refused.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"

UNK, BOS, EOS = 0, 1, 2
FIRST_BYTE: Final = 3
DIM, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, LAYERS = 64, 4, 2, 16, 128, 2

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
CONTROL_TOKENS: Final = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

KNOWN_PIECES: Final = (
    "Tokens", " flow", " like", " water", ": caf", "é", " costs", " 3 ", "€", ", and", " smiles ",
    "😀", " again.",
)  # fmt: skip
"""What `write_chain` says by default; characters outside ASCII are split over byte tokens."""

KNOWN_ANSWER: Final = "".join(KNOWN_PIECES)
"""The greedy answer of a default `write_chain` file to any prompt that ends outside the chain."""


@dataclasses.dataclass(frozen=True)
class ChainModel:
    """A written chain: its file, its greedy answer, the answer's token ids and the end token."""

    path: Path
    answer: str
    tokens: list[int]


@dataclasses.dataclass(frozen=True)
class BrokenFile:
    """A file that must be refused: what it is called, how it is made, the code it must give."""

    name: str
    code: str
    write: Callable[[Path], object]


def numbered_pieces(count: int) -> tuple[str, ...]:
    """That many distinct pieces for a long known answer: ` 0 1 2 …`."""
    return tuple(f" {number}" for number in range(count))


def write_chain(
    path: Path,
    pieces: Sequence[str] = KNOWN_PIECES,
    *,
    context_length: int = 2048,
    chat_template: str | None = CHAT_TEMPLATE,
    name: str = "chain",
    sampling: Mapping[str, float] | None = None,
    tensors_per_file: int = 0,
) -> ChainModel:
    """Write a model that answers `pieces` in order and then ends, whatever the prompt says before.

    Each piece has one successor, so no piece and no byte of a non-ASCII piece may occur twice. The
    prompt's last token must be none of the chain's; a chat turn always ends outside. The layers are
    real but scaled down: history moves the logits by about 1 against margins of 25 and more, so the
    default sampling parameters give the same text as greedy ones. `sampling` fills
    `general.sampling.*`. With `tensors_per_file` the model is split; its path is the first file's.
    """
    vocab = _Vocab.of(pieces)
    chain = [*(token for piece in pieces for token in vocab.spell(piece)), EOS]
    if len(set(chain)) != len(chain):
        raise ValueError("a token occurs twice, so its successor would not be unique")
    rng = np.random.default_rng(7)
    entry = _signs(rng, DIM)
    embeddings = entry + 0.25 * rng.standard_normal((len(vocab.tokens), DIM))
    embeddings[chain] = _signs(rng, (len(chain), DIM))
    output = 0.1 * rng.standard_normal((len(vocab.tokens), DIM))
    output[chain[0]] = entry
    output[chain[1:]] = embeddings[chain[:-1]]
    writer = _open(path, name, vocab, context_length, chat_template, sampling, tensors_per_file)
    _add_layers(writer, rng, mix=0.05)
    path = _finish(writer, embeddings, output)
    return ChainModel(path=path, answer="".join(pieces), tokens=chain)


def write_tiny(
    path: Path,
    *,
    seed: int = 0,
    vocab_size: int = 512,
    context_length: int = 2048,
    chat_template: str | None = CHAT_TEMPLATE,
    writer_type: type[GGUFWriter] = GGUFWriter,
    architecture: str = "llama",
) -> Path:
    """Write a model of random weights: any token may follow, lone UTF-8 bytes among them."""
    rng = np.random.default_rng(seed)
    vocab = _Vocab.of(())
    vocab = _Vocab.of(numbered_pieces(vocab_size - len(vocab.tokens)))
    writer = writer_type(path, architecture)
    _describe(writer, "tiny", vocab, context_length, chat_template, None)
    _add_layers(writer, rng, mix=1.0)
    shape = (len(vocab.tokens), DIM)
    _finish(writer, rng.standard_normal(shape), rng.standard_normal(shape) / np.sqrt(DIM))
    return path


def write_as_q4_0(source: Path, path: Path) -> Path:
    """Write the model at `source` again, its matrices as Q4_0."""
    model = GGUFReader(source)
    writer = GGUFWriter(path, model.fields["general.architecture"].contents())
    for name, field in model.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            value_type, *items = field.types
            item_type = items[-1] if items else None
            writer.add_key_value(name, field.contents(), value_type, item_type)
    for tensor in model.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        if weights.ndim == 1:
            writer.add_tensor(tensor.name, weights)
        else:
            kind = GGMLQuantizationType.Q4_0
            writer.add_tensor(tensor.name, quantize(weights, kind), raw_dtype=kind)
    _write(writer)
    return path


def write_with_tensor(path: Path, name: str, data: Any, kind: GGMLQuantizationType) -> Path:
    """Write a model of random weights with one tensor more, given as the bytes of that type."""

    class Writer(GGUFWriter):
        def write_header_to_file(self, path: Path | None = None) -> None:
            self.add_tensor(name, data, raw_dtype=kind)
            super().write_header_to_file(path)

    return write_tiny(path, writer_type=Writer)


def write_truncated(path: Path) -> Path:
    """Write a file whose tensor data ends too early."""
    data = write_tiny(path).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def write_truncated_header(path: Path) -> Path:
    """Write a file that ends inside its key/value pairs."""
    data = write_tiny(path).read_bytes()
    path.write_bytes(data[:200])
    return path


def write_wrong_magic(path: Path) -> Path:
    """Write a file that is no GGUF."""
    return _patched(path, 0, b"GGML")


def write_wrong_version(path: Path) -> Path:
    """Write a file of a format version that does not exist."""
    return _patched(path, 4, struct.pack("<I", 99))


def write_absurd_tensor_count(path: Path) -> Path:
    """Write a header that promises more tensors than any file could hold."""
    return _patched(path, 8, struct.pack("<Q", 2**62))


def write_absurd_key_count(path: Path) -> Path:
    """Write a header that promises more keys than any file could hold."""
    return _patched(path, 16, struct.pack("<Q", 2**62))


def write_f64_tensor(path: Path) -> Path:
    """Write a well-formed file with a tensor type that crashes a matrix product."""
    rng = np.random.default_rng(0)
    vocab = _Vocab.of(())
    writer = _open(path, "f64", vocab, 2048, None, None)
    _add_layers(writer, rng, mix=1.0)
    shape = (len(vocab.tokens), DIM)
    writer.add_tensor("output.weight", rng.standard_normal(shape).astype(np.float64))
    _finish(writer, rng.standard_normal(shape), None)
    return path


def _write_nothing(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


BROKEN_FILES: Final = (
    BrokenFile("missing", "model_not_found", _write_nothing),
    BrokenFile("empty", "gguf_invalid", lambda path: path.write_bytes(b"")),
    BrokenFile("truncated", "gguf_invalid", write_truncated),
    BrokenFile("truncated-header", "gguf_invalid", write_truncated_header),
    BrokenFile("wrong-magic", "gguf_invalid", write_wrong_magic),
    BrokenFile("wrong-version", "gguf_unsupported", write_wrong_version),
    BrokenFile("absurd-tensor-count", "gguf_invalid", write_absurd_tensor_count),
    BrokenFile("absurd-key-count", "gguf_invalid", write_absurd_key_count),
    BrokenFile("f64-tensor", "gguf_unsupported", write_f64_tensor),
)
"""Every way a model file can be wrong, with the code that must come back."""


@dataclasses.dataclass(frozen=True)
class _Vocab:
    """An SPM vocabulary: control tokens, the 256 bytes, printable ASCII, then the pieces.

    No piece can be reached by merging characters, since its prefixes are not in the vocabulary:
    prompts are read character by character and never end inside a chain of longer pieces.
    """

    tokens: list[str]
    types: list[TokenType]
    ids: dict[str, int]

    @classmethod
    def of(cls, pieces: Sequence[str]) -> _Vocab:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        types = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256]
        tokens += CONTROL_TOKENS
        types += [TokenType.CONTROL] * len(CONTROL_TOKENS)
        characters = ["▁", *(chr(code) for code in range(0x21, 0x7F))]
        words = [_spm(run) for piece in pieces for run in _ascii_runs(piece)]
        normal = list(dict.fromkeys([*characters, *words]))
        tokens += normal
        types += [TokenType.NORMAL] * len(normal)
        return cls(tokens, types, {text: index for index, text in enumerate(tokens)})

    def spell(self, piece: str) -> list[int]:
        """Token ids of a piece: its ASCII run as one token, other characters as bytes."""
        ids: list[int] = []
        for run in _runs(piece):
            if run.isascii():
                ids.append(self.ids[_spm(run)])
            else:
                ids += [FIRST_BYTE + byte for byte in run.encode()]
        return ids


def _runs(piece: str) -> list[str]:
    runs: list[str] = []
    for character in piece:
        if runs and runs[-1].isascii() == character.isascii():
            runs[-1] += character
        else:
            runs.append(character)
    return runs


def _ascii_runs(piece: str) -> list[str]:
    return [run for run in _runs(piece) if run.isascii()]


def _spm(text: str) -> str:
    return text.replace(" ", "▁")


def _signs(rng: np.random.Generator, shape: int | tuple[int, int]) -> Any:
    return rng.choice([-1.0, 1.0], size=shape)


def _open(
    path: Path,
    name: str,
    vocab: _Vocab,
    context_length: int,
    chat_template: str | None,
    sampling: Mapping[str, float] | None,
    tensors_per_file: int = 0,
) -> GGUFWriter:
    writer = GGUFWriter(path, "llama", split_max_tensors=tensors_per_file)
    _describe(writer, name, vocab, context_length, chat_template, sampling)
    return writer


def _describe(
    writer: GGUFWriter,
    name: str,
    vocab: _Vocab,
    context_length: int,
    chat_template: str | None,
    sampling: Mapping[str, float] | None,
) -> None:
    writer.add_name(name)
    writer.add_context_length(context_length)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(len(vocab.tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocab.tokens)
    writer.add_token_scores([-float(index) for index in range(len(vocab.tokens))])
    writer.add_token_types(vocab.types)
    writer.add_unk_token_id(UNK)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, value in (sampling or {}).items():
        if isinstance(value, int):
            writer.add_int32(f"general.sampling.{key}", value)
        else:
            writer.add_float32(f"general.sampling.{key}", value)


def _add_layers(writer: GGUFWriter, rng: np.random.Generator, mix: float) -> None:
    """Add the layers; `mix` scales what each of them adds to the residual stream."""

    def matrix(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        weights = scale * rng.standard_normal((rows, columns)) / np.sqrt(columns)
        writer.add_tensor(name, _float32(weights))

    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(DIM, dtype=np.float32))
        matrix(f"{block}.attn_q.weight", HEADS * HEAD_DIM, DIM)
        matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD_DIM, DIM)
        matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD_DIM, DIM)
        matrix(f"{block}.attn_output.weight", DIM, HEADS * HEAD_DIM, mix)
        writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(DIM, dtype=np.float32))
        matrix(f"{block}.ffn_gate.weight", FEED_FORWARD, DIM)
        matrix(f"{block}.ffn_up.weight", FEED_FORWARD, DIM)
        matrix(f"{block}.ffn_down.weight", DIM, FEED_FORWARD, mix)


def _finish(writer: GGUFWriter, embeddings: Any, output: Any | None) -> Path:
    writer.add_tensor("token_embd.weight", _float32(embeddings))
    writer.add_tensor("output_norm.weight", np.ones(DIM, dtype=np.float32))
    if output is not None:
        writer.add_tensor("output.weight", _float32(output))
    return _write(writer)


def _write(writer: GGUFWriter) -> Path:
    """Write what was added and return the file, of a split model the first one."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    assert writer.fout is not None
    first = Path(writer.fout[0].name)
    writer.close()
    return first


def _float32(values: Any) -> Array:
    # The cast comes last: NumPy turns float32 times a float64 scalar into float64.
    return np.ascontiguousarray(values, dtype=np.float32)


def _patched(path: Path, offset: int, data: bytes) -> Path:
    content = bytearray(write_tiny(path).read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path
