"""A GGUF file as data that can be changed at will and written back, however wrong it has become."""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

U16: Final = 2
U32: Final = 4
I32: Final = 5
F32: Final = 6
BOOL: Final = 7
STRING: Final = 8
ARRAY: Final = 9
U64: Final = 10

SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""The `struct` codes of the scalar value types."""

BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
    28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 36: (128, 32),
    39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip
"""Elements and bytes of one block of each tensor type."""

I2_S: Final = 36
TAIL: Final = 32
"""Bytes behind the codes of an I2_S tensor; they begin with its scale."""

Scalar: TypeAlias = "int | float | bool | bytes"


@dataclasses.dataclass
class Items:
    """An array: the type of its items and the items."""

    type_id: int
    values: list[Scalar]


@dataclasses.dataclass
class Pair:
    """One key with its value."""

    key: bytes
    type_id: int
    value: Scalar | Items


@dataclasses.dataclass
class Tensor:
    """One tensor with its data; an `offset` of None is where the data really lies."""

    name: bytes
    shape: list[int]
    type_id: int
    data: bytes
    offset: int | None = None


@dataclasses.dataclass(frozen=True)
class Field:
    """Where a written file holds a number: of what kind, at which byte, in how many bytes."""

    kind: str
    place: int
    size: int


@dataclasses.dataclass
class GgufFile:
    """The parts of a file, in file order."""

    pairs: list[Pair]
    tensors: list[Tensor]
    version: int = 3
    alignment: int = 32

    def pair(self, key: str) -> Pair | None:
        return next((pair for pair in self.pairs if pair.key == key.encode()), None)

    def copy(self) -> GgufFile:
        """A file of its own that shares no list with this one."""
        pairs = [Pair(pair.key, pair.type_id, _copied(pair.value)) for pair in self.pairs]
        tensors = [dataclasses.replace(each, shape=list(each.shape)) for each in self.tensors]
        return dataclasses.replace(self, pairs=pairs, tensors=tensors)

    def architecture(self) -> str:
        pair = self.pair("general.architecture")
        if pair is None or not isinstance(pair.value, bytes):
            return ""
        return pair.value.decode(errors="replace")

    def set(self, key: str, type_id: int, value: Scalar | Items) -> None:
        self.pairs = [pair for pair in self.pairs if pair.key != key.encode()]
        self.pairs.append(Pair(key.encode(), type_id, value))

    def encode(self) -> tuple[bytes, list[Field]]:
        """The file's bytes and the fields of its header."""
        writer = _Writer()
        writer.raw(b"GGUF")
        writer.number("version", U32, self.version)
        writer.number("tensor count", U64, len(self.tensors))
        writer.number("pair count", U64, len(self.pairs))
        for pair in self.pairs:
            writer.text("key length", pair.key)
            writer.number("value type", U32, pair.type_id)
            writer.value(pair.type_id, pair.value)
        offset = 0
        for tensor in self.tensors:
            writer.tensor(tensor, offset)
            offset = _aligned(offset + len(tensor.data), self.alignment)
        writer.pad(self.alignment)
        for tensor in self.tensors:
            writer.raw(tensor.data)
            writer.pad(self.alignment)
        return bytes(writer.out), writer.fields


def _copied(value: Scalar | Items) -> Scalar | Items:
    return Items(value.type_id, list(value.values)) if isinstance(value, Items) else value


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self.fields: list[Field] = []

    def raw(self, data: bytes) -> None:
        self.out += data

    def pad(self, alignment: int) -> None:
        self.out += bytes(_aligned(len(self.out), alignment) - len(self.out))

    def number(self, kind: str, type_id: int, value: Scalar) -> None:
        data = encode_scalar(type_id, value)
        self.fields.append(Field(kind, len(self.out), len(data)))
        self.out += data

    def text(self, kind: str, text: bytes) -> None:
        self.number(kind, U64, len(text))
        self.out += text

    def value(self, type_id: int, value: Scalar | Items) -> None:
        if isinstance(value, Items):
            self.number("item type", U32, value.type_id)
            self.number("item count", U64, len(value.values))
            for item in value.values:
                if isinstance(item, bytes):
                    self.text("item length", item)
                else:
                    self.number("item", value.type_id, item)
        elif isinstance(value, bytes):
            self.text("text length", value)
        else:
            self.number("value", type_id, value)

    def tensor(self, tensor: Tensor, offset: int) -> None:
        self.text("tensor name length", tensor.name)
        self.number("dimensions", U32, len(tensor.shape))
        for size in tensor.shape:
            self.number("size", U64, size)
        self.number("tensor type", U32, tensor.type_id)
        self.number("offset", U64, offset if tensor.offset is None else tensor.offset)


def encode_scalar(type_id: int, value: Scalar) -> bytes:
    """A scalar's bytes; integers are cut to the size of their type."""
    code = SCALARS[type_id]
    if code in "fd":
        try:
            return struct.pack("<" + code, value)
        except OverflowError:
            return struct.pack("<" + code, float("inf"))
    if code == "?":
        return bytes([int(value) & 0xFF])
    size = struct.calcsize(code)
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def decode(data: bytes) -> GgufFile:
    """The parts of a well-formed file."""
    reader = _Reader(data)
    reader.take(4)
    version, tensor_count, pair_count = reader.scalar(U32), reader.scalar(U64), reader.scalar(U64)
    pairs = [reader.pair() for _ in range(int(pair_count))]
    heads = [reader.tensor_head() for _ in range(int(tensor_count))]
    file = GgufFile(pairs, [], version=int(version))
    alignment = file.pair("general.alignment")
    if alignment is not None and isinstance(alignment.value, int):
        file.alignment = alignment.value
    start = _aligned(reader.place, file.alignment)
    for name, shape, type_id, offset in heads:
        at = start + offset
        file.tensors.append(Tensor(name, shape, type_id, data[at : at + data_size(shape, type_id)]))
    return file


def data_size(shape: list[int], type_id: int) -> int:
    """Bytes of a tensor's data; 0 for an unknown type."""
    elements = 1
    for size in shape:
        elements *= size
    per_block, bytes_per_block = BLOCKS.get(type_id, (1, 0))
    size = -(-elements // per_block) * bytes_per_block
    return size + TAIL if type_id == I2_S else size


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place]

    def scalar(self, type_id: int) -> int | float | bool:
        code = "<" + SCALARS[type_id]
        (value,) = struct.unpack(code, self.take(struct.calcsize(code)))
        assert isinstance(value, int | float)
        return value

    def text(self) -> bytes:
        return self.take(int(self.scalar(U64)))

    def value(self, type_id: int) -> Scalar:
        return self.text() if type_id == STRING else self.scalar(type_id)

    def pair(self) -> Pair:
        key, type_id = self.text(), int(self.scalar(U32))
        if type_id != ARRAY:
            return Pair(key, type_id, self.value(type_id))
        item_type, count = int(self.scalar(U32)), int(self.scalar(U64))
        return Pair(key, ARRAY, Items(item_type, [self.value(item_type) for _ in range(count)]))

    def tensor_head(self) -> tuple[bytes, list[int], int, int]:
        name, dimensions = self.text(), int(self.scalar(U32))
        shape = [int(self.scalar(U64)) for _ in range(dimensions)]
        return name, shape, int(self.scalar(U32)), int(self.scalar(U64))


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment


def arrays(file: GgufFile) -> Iterator[tuple[Pair, Items]]:
    """All arrays of a file."""
    for pair in file.pairs:
        if isinstance(pair.value, Items):
            yield pair, pair.value
