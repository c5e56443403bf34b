"""Flatbuffers, as far as Arrow's metadata needs them: a reader that checks all bounds, a writer.

What is read may come from anybody. Every position is compared with the length of the buffer before
it is used, and nothing is followed that the caller didn't ask for by its slot.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.kernel.errors import Malformed

_UINT8, _INT16, _UINT16 = struct.Struct("<B"), struct.Struct("<h"), struct.Struct("<H")
_INT32, _UINT32, _INT64 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")
SCALARS: Final = {"ubyte": _UINT8, "short": _INT16, "int": _INT32, "long": _INT64}


def broken(why: str) -> Malformed:
    """The refusal of bytes that are no Arrow stream."""
    return Malformed(f"The body is not a sound Arrow stream: {why}")


def _number(data: bytes, at: int, kind: struct.Struct) -> int:
    if not 0 <= at <= len(data) - kind.size:
        raise broken("its metadata points outside of itself")
    found: int = kind.unpack_from(data, at)[0]
    return found


class Table:
    """A table within ``data``; a slot that isn't there has its default."""

    __slots__ = ("_at", "_data", "_size", "_vtable")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - _number(data, at, _INT32)
        self._size = _number(data, self._vtable, _UINT16)

    @classmethod
    def root(cls, data: bytes) -> "Table":
        """The table that the whole buffer is about."""
        return cls(data, _number(data, 0, _UINT32))

    def _place(self, slot: int) -> int:
        """Where the slot's value stands; 0: it isn't there."""
        entry = 4 + 2 * slot
        if entry + 2 > self._size:
            return 0
        offset = _number(self._data, self._vtable + entry, _UINT16)
        return self._at + offset if offset else 0

    def scalar(self, slot: int, kind: str, default: int = 0) -> int:
        """A number of one of ``SCALARS``."""
        place = self._place(slot)
        return _number(self._data, place, SCALARS[kind]) if place else default

    def _target(self, slot: int) -> int:
        place = self._place(slot)
        return place + _number(self._data, place, _UINT32) if place else 0

    def table(self, slot: int) -> "Table | None":
        """A table of its own."""
        target = self._target(slot)
        return Table(self._data, target) if target else None

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        """Where the first item of a vector stands, and how many there are."""
        target = self._target(slot)
        if not target:
            return 0, 0
        count = _number(self._data, target, _UINT32)
        if count * size > len(self._data) - target - 4:
            raise broken("its metadata points outside of itself")
        return target + 4, count

    def string(self, slot: int, most: int) -> str:
        """A text of so many bytes at most; '' where there is none."""
        start, count = self._vector(slot, 1)
        if count > most:
            raise broken(f"a text of its metadata has more than {most} bytes")
        try:
            return self._data[start : start + count].decode()
        except UnicodeDecodeError as error:
            raise broken("its metadata is not UTF-8") from error

    def count(self, slot: int) -> int:
        """How many items of four bytes or more a vector has."""
        return self._vector(slot, 4)[1]

    def tables(self, slot: int) -> list["Table"]:
        """A vector of tables."""
        start, count = self._vector(slot, 4)
        places = range(start, start + 4 * count, 4)
        return [Table(self._data, place + _number(self._data, place, _UINT32)) for place in places]

    def longs(self, slot: int, each: int) -> list[tuple[int, ...]]:
        """A vector of structs of ``each`` numbers of 64 bits."""
        start, count = self._vector(slot, 8 * each)
        return list(struct.iter_unpack(f"<{each}q", self._data[start : start + 8 * each * count]))


@dataclass(frozen=True)
class Scalar:
    """A number to write, as one of ``SCALARS``."""

    kind: str
    value: int


@dataclass(frozen=True)
class Longs:
    """A vector of structs of 64-bit numbers to write."""

    structs: Sequence[tuple[int, ...]]


# A table is a mapping of slots to what stands there, a text is a str, a list is one of tables.
Node = Any


def written(root: dict[int, Node]) -> bytes:
    """A buffer of this table, padded to eight bytes."""
    out = bytearray(8)
    _INT32.pack_into(out, 0, _write(out, root))
    return bytes(out + bytes(-len(out) % 8))


def _write(out: bytearray, node: Node) -> int:
    """Write a node behind all others; where it stands."""
    if isinstance(node, dict):
        return _write_table(out, node)
    if isinstance(node, str):
        text = node.encode()
        at = _aligned(out, 4)
        out += _UINT32.pack(len(text)) + text + b"\0"
        return at
    if isinstance(node, Longs):
        at = _aligned(out, 8, ahead=4)
        out += _UINT32.pack(len(node.structs))
        for numbers in node.structs:
            out += struct.pack(f"<{len(numbers)}q", *numbers)
        return at
    at = _aligned(out, 4)
    out += _UINT32.pack(len(node)) + bytes(4 * len(node))
    for place, item in enumerate(node):
        _point(out, at + 4 + 4 * place, _write(out, item))
    return at


def _write_table(out: bytearray, slots: dict[int, Node]) -> int:
    placed, size = {}, 4
    for slot, node in slots.items():
        width = SCALARS[node.kind].size if isinstance(node, Scalar) else 4
        size += -size % width
        placed[slot] = size
        size += width
    vtable = _aligned(out, 2)
    offsets = [placed.get(slot, 0) for slot in range(max(slots, default=-1) + 1)]
    out += struct.pack(f"<{len(offsets) + 2}H", 4 + 2 * len(offsets), size, *offsets)
    at = _aligned(out, 8)
    out += _INT32.pack(at - vtable) + bytes(size - 4)
    for slot, node in slots.items():
        place = at + placed[slot]
        if isinstance(node, Scalar):
            SCALARS[node.kind].pack_into(out, place, node.value)
        else:
            _point(out, place, _write(out, node))
    return at


def _aligned(out: bytearray, size: int, *, ahead: int = 0) -> int:
    """Pad so that what stands ``ahead`` of the end is aligned; the end."""
    out += bytes(-(len(out) + ahead) % size)
    return len(out)


def _point(out: bytearray, place: int, target: int) -> None:
    _UINT32.pack_into(out, place, target - place)
