"""What is done to a good GGUF file to make a hostile one: blind, field by field, and by meaning."""

from __future__ import annotations

import copy
import struct
from typing import TYPE_CHECKING, Final

from gguf.constants import MODEL_ARCH_NAMES, TENSOR_NAMES

from .gguf_file import (
    ARRAY,
    BLOCKS,
    BOOL,
    F32,
    I32,
    SCALARS,
    STRING,
    U32,
    Field,
    GgufFile,
    Items,
    Scalar,
    Tensor,
    arrays,
    data_size,
)
from .words import (
    FLOATS,
    GENERAL_KEYS,
    INTEGERS,
    KEYS,
    PRE_TOKENIZERS,
    TEMPLATES,
    TEXTS,
    TOKENIZER_KEYS,
    TOKENIZERS,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


def mutant(good: GgufFile, rng: Random) -> bytes:
    """A hostile version of a file; the same seed gives the same one."""
    if rng.random() < 0.12:
        data, fields = good.encode()
        # The last field is a tensor's offset.
        return _blind(data, fields[-1].place + fields[-1].size, rng)
    file = good.copy()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(MEANINGFUL)(file, rng)
    data, fields = file.encode()
    if rng.random() < 0.25:
        data = _fields(data, fields, rng)
    return data


def _blind(data: bytes, header: int, rng: Random) -> bytes:
    """Change bytes, cut, lengthen or shuffle without regard to what they mean."""
    out = bytearray(data)
    kind = rng.randrange(6)
    place = rng.randrange(header)
    if kind == 0:
        return bytes(out[: rng.choice((place, rng.randrange(len(out))))])
    if kind == 1:
        return bytes(out) + rng.randbytes(rng.choice((1, 31, 32, 4096)))
    if kind == 2:
        length = rng.randrange(1, 64)
        out[place:place] = out[place : place + length]
    elif kind == 3:
        del out[place : place + rng.randrange(1, 64)]
    elif kind == 4:
        out[place : place + 8] = struct.pack("<Q", rng.choice(INTEGERS) & (2**64 - 1))
    else:
        for _ in range(rng.randrange(1, 9)):
            out[rng.randrange(header)] = rng.randrange(256)
    return bytes(out)


def _fields(data: bytes, fields: list[Field], rng: Random) -> bytes:
    """Overwrite numbers of the header, each kind of number as likely as any other."""
    out = bytearray(data)
    kinds = sorted({field.kind for field in fields})
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(kinds)
        field = rng.choice([field for field in fields if field.kind == kind])
        old = int.from_bytes(out[field.place : field.place + field.size], "little")
        number = rng.choice(
            (rng.choice(INTEGERS), old + 1, old - 1, old * 2, old ^ 1 << rng.randrange(64))
        )
        number &= (1 << 8 * field.size) - 1
        out[field.place : field.place + field.size] = number.to_bytes(field.size, "little")
    return bytes(out)


def _scalar(type_id: int, rng: Random) -> Scalar:
    if type_id == STRING:
        return rng.choice(TEXTS)
    if SCALARS[type_id] in "fd":
        return rng.choice(FLOATS)
    return rng.choice(INTEGERS)


def _any_value(rng: Random) -> tuple[int, Scalar | Items]:
    type_id = rng.choice((U32, U32, U32, I32, F32, BOOL, STRING, ARRAY, 10, 11, 12, 0))
    if type_id == ARRAY:
        item = rng.choice((U32, I32, F32, STRING, BOOL))
        return ARRAY, Items(
            item, [_scalar(item, rng) for _ in range(rng.choice((0, 1, 2, 3, 4, 300)))]
        )
    return type_id, _scalar(type_id, rng)


def _change_value(file: GgufFile, rng: Random) -> None:
    pairs = [pair for pair in file.pairs if not isinstance(pair.value, Items)]
    if pairs:
        pair = rng.choice(pairs)
        pair.value = _scalar(pair.type_id, rng)


def _retype_value(file: GgufFile, rng: Random) -> None:
    if file.pairs:
        pair = rng.choice(file.pairs)
        pair.type_id, pair.value = _any_value(rng)


def _change_pairs(file: GgufFile, rng: Random) -> None:
    if not file.pairs:
        return
    index = rng.randrange(len(file.pairs))
    kind = rng.randrange(4)
    if kind == 0:
        file.pairs.append(copy.deepcopy(file.pairs[index]))
    elif kind == 1:
        file.pairs[index].key = rng.choice(TEXTS)
    elif kind == 2:
        rng.shuffle(file.pairs)
    else:
        del file.pairs[index]


def _add_key(file: GgufFile, rng: Random) -> None:
    """Set a key that libraries know to a value that fits its usual type, or to any."""
    group = rng.randrange(4)
    if group == 3:
        key = rng.choice(GENERAL_KEYS)
    elif group == 2:
        key = "tokenizer.ggml." + rng.choice(TOKENIZER_KEYS)
    else:
        key = f"{file.architecture()}.{rng.choice(KEYS)}"
    if rng.random() < 0.7:
        old = file.pair(key)
        type_id = (
            old.type_id if old and old.type_id in SCALARS else rng.choice((U32, U32, F32, BOOL))
        )
        file.set(key, type_id, _scalar(type_id, rng))
    else:
        file.set(key, *_any_value(rng))


def _add_small_number(file: GgufFile, rng: Random) -> None:
    """Set a size to a small plausible number: what passes simple checks reaches deep."""
    key = f"{file.architecture()}.{rng.choice(KEYS)}"
    file.set(key, U32, rng.choice((0, 1, 2, 3, 4, 6, 8, 10, 16, 20, 32, 48, 64, 96, 128, 256)))


def _change_array(file: GgufFile, rng: Random) -> None:
    found = list(arrays(file))
    if not found:
        return
    _, items = rng.choice(found)
    values = items.values
    place = rng.randrange(len(values)) if values else 0
    kind = rng.randrange(7)
    if kind == 0:
        del values[place:]
    elif kind == 1:
        values += [_scalar(items.type_id, rng) for _ in range(rng.choice((1, 2, 100)))]
    elif kind == 2:
        rng.shuffle(values)
    elif kind == 3 and items.type_id != STRING:
        items.type_id = rng.choice((0, 1, U32, I32, 10, 11))
        items.values = [0 if isinstance(each, float) else each for each in values]
    elif values:
        for _ in range(rng.choice((1, 3, 30))):
            at = rng.randrange(len(values))
            values[at] = rng.choice((_scalar(items.type_id, rng), rng.choice(values)))


def _change_vocabulary(file: GgufFile, rng: Random) -> None:
    """Change tokens, scores, types or merges all together, so that their lengths still agree."""
    tokens, types = file.pair("tokenizer.ggml.tokens"), file.pair("tokenizer.ggml.token_type")
    kind = rng.randrange(6)
    if kind == 0:
        file.set("tokenizer.ggml.model", STRING, rng.choice(TOKENIZERS))
    elif kind == 1:
        file.set("tokenizer.ggml.pre", STRING, rng.choice((*PRE_TOKENIZERS, *TEXTS)))
    elif kind == 2:
        key = "tokenizer.ggml." + rng.choice(TOKENIZER_KEYS[:18])
        file.set(key, U32, rng.choice((0, 1, 2, 3, 100, 259, 2**31, 2**32 - 1)))
    elif kind == 3 and types is not None and isinstance(types.value, Items):
        wanted = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, -1, 2**31 - 1))
        for index in range(len(types.value.values)):
            if rng.random() < rng.choice((0.01, 0.5, 1)):
                types.value.values[index] = wanted
    elif tokens is not None and isinstance(tokens.value, Items) and tokens.value.values:
        for _ in range(rng.choice((1, 5))):
            tokens.value.values[rng.randrange(len(tokens.value.values))] = rng.choice(TEXTS)


def _change_architecture(file: GgufFile, rng: Random) -> None:
    """Call it another architecture, with all keys renamed."""
    old = file.architecture().encode()
    new = rng.choice(sorted(MODEL_ARCH_NAMES.values())).encode()
    for pair in file.pairs:
        if pair.key == b"general.architecture":
            pair.value = new
        elif old and pair.key.startswith(old + b"."):
            pair.key = new + pair.key[len(old) :]


def _change_template(file: GgufFile, rng: Random) -> None:
    file.set("tokenizer.chat_template", STRING, rng.choice(TEMPLATES))


def _change_tensors(file: GgufFile, rng: Random) -> None:
    """Drop, double, rename or move a tensor."""
    if not file.tensors:
        return
    index = rng.randrange(len(file.tensors))
    tensor = file.tensors[index]
    kind = rng.randrange(6)
    if kind == 0:
        del file.tensors[index]
    elif kind == 1:
        file.tensors.append(copy.deepcopy(tensor))
    elif kind == 2:
        tensor.name = rng.choice(
            (*TEXTS, _tensor_name(rng), tensor.name.replace(b"blk.0", b"blk.7"))
        )
    elif kind == 3:
        file.tensors.append(
            Tensor(_tensor_name(rng), list(tensor.shape), tensor.type_id, tensor.data)
        )
    elif kind == 4:
        tensor.offset = rng.choice((*INTEGERS, 32 * rng.randrange(1 << 12)))
    else:
        rng.shuffle(file.tensors)


def _tensor_name(rng: Random) -> bytes:
    name = rng.choice(sorted(TENSOR_NAMES.values())).replace("{bid}", str(rng.randrange(3)))
    return (
        name.replace("{xid}", "0") + rng.choice((".weight", ".weight", ".bias", ".scale"))
    ).encode()


def _reshape(file: GgufFile, rng: Random) -> None:
    """Give a tensor another shape, with data to match."""
    if not file.tensors:
        return
    tensor = rng.choice(file.tensors)
    shape = list(tensor.shape)
    kind = rng.randrange(6)
    if kind == 0:
        rng.shuffle(shape)
    elif kind == 1:
        shape += [1] * rng.randrange(1, 4)
    elif kind == 2 and len(shape) > 1:
        shape[-2:] = [shape[-2] * shape[-1]]
    elif kind == 3:
        shape[rng.randrange(len(shape))] *= 2
    elif kind == 4:
        place = rng.randrange(len(shape))
        shape[place] = max(1, shape[place] + rng.choice((-1, 1, -32, 32)))
    else:
        shape[rng.randrange(len(shape))] = rng.choice((1, 2, 3, 32, 64, 256))
    _refill(tensor, shape, tensor.type_id, rng)


def _change_type(file: GgufFile, rng: Random) -> None:
    """Give one tensor, or all matrices, another type, with data to match."""
    type_id = rng.choice((*BLOCKS, 4, 31, 33, 36, 37, 38, 43, 99, 2**31, 2**32 - 1))
    chosen = [rng.choice(file.tensors)] if file.tensors else []
    if rng.random() < 0.3:
        chosen = [tensor for tensor in file.tensors if len(tensor.shape) > 1]
    for tensor in chosen:
        _refill(tensor, tensor.shape, type_id, rng)


def _refill(tensor: Tensor, shape: list[int], type_id: int, rng: Random) -> None:
    size = min(data_size(shape, type_id), 1 << 22)
    if size != len(tensor.data):
        tensor.data = rng.randbytes(size) if rng.random() < 0.5 else bytes(size)
    tensor.shape, tensor.type_id = shape, type_id


def _change_data(file: GgufFile, rng: Random) -> None:
    """Replace weights: noise, NaN, infinity, zero."""
    if not file.tensors:
        return
    for tensor in rng.sample(file.tensors, min(len(file.tensors), rng.choice((1, 1, 30)))):
        size = len(tensor.data)
        pattern = rng.choice(
            (b"", b"\xff", b"\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f")
        )
        tensor.data = (pattern * size)[:size] if pattern else rng.randbytes(size)


def _change_layers(file: GgufFile, rng: Random) -> None:
    """Claim more or fewer layers than there are, or drop one."""
    if rng.random() < 0.5:
        file.set(
            f"{file.architecture()}.block_count", U32, rng.choice((0, 1, 3, 100, 512, 513, 2**31))
        )
    else:
        block = f"blk.{rng.randrange(3)}.".encode()
        file.tensors = [tensor for tensor in file.tensors if not tensor.name.startswith(block)]


def _change_alignment(file: GgufFile, rng: Random) -> None:
    alignment = rng.choice((0, 1, 2, 7, 8, 16, 24, 64, 4096, 65536))
    file.set("general.alignment", U32, alignment)
    file.alignment = max(1, alignment)


MEANINGFUL: Final[tuple[Callable[[GgufFile, Random], None], ...]] = (
    _change_value,
    _retype_value,
    _change_pairs,
    _add_key,
    _add_key,
    _add_small_number,
    _add_small_number,
    _change_array,
    _change_vocabulary,
    _change_vocabulary,
    _change_architecture,
    _change_template,
    _change_tensors,
    _change_tensors,
    _reshape,
    _reshape,
    _change_type,
    _change_type,
    _change_data,
    _change_layers,
    _change_alignment,
)
