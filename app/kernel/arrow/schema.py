"""The columns of an Arrow stream: their names and types, of which the flat ones are understood."""

from dataclasses import dataclass
from typing import Final

from app.kernel.arrow.flatbuffer import Table, broken
from app.kernel.errors import TooLarge

MOST_COLUMNS: Final = 10_000
_LONGEST_NAME: Final = 4096
_MOST_SCALE: Final = 76
_UNITS: Final = ("s", "ms", "us", "ns")
_KIND_NAMES: Final = (
    *("no type", "null", "integer", "float", "binary", "text", "boolean", "decimal", "date"),
    *("time of day", "timestamp", "interval", "list", "struct", "union", "binary", "list", "map"),
    *("duration", "binary", "text", "list", "run-end encoded", "binary", "text", "list", "list"),
)
_NULL, _INT, _FLOAT, _UTF8, _BOOL, _DECIMAL, _DATE, _TIMESTAMP = 1, 2, 3, 5, 6, 7, 8, 10
_LARGE_UTF8, _UTF8_VIEW = 20, 24


@dataclass(frozen=True)
class ColumnType:
    """How a column's values lie in its buffers.

    ``kind`` is null, integer, float, boolean, decimal, moment or text, or the name of a type that
    isn't read. ``form`` is numpy's name of the numbers, of a text's offsets, or ``view``; ``unit``
    that of a moment, ``scale`` a decimal's.
    """

    kind: str
    form: str = ""
    unit: str = ""
    scale: int = 0


@dataclass(frozen=True)
class Field:
    """A column: its values, or the codes that stand for those of a dictionary."""

    name: str
    type: ColumnType
    dictionary: int | None = None
    codes: ColumnType | None = None

    @property
    def kind(self) -> str:
        """The kind of its values; one that isn't read where a dictionary holds no texts."""
        coded = self.dictionary is not None and self.type.kind != "text"
        return f"dictionary of {self.type.kind}" if coded else self.type.kind

    @property
    def stored(self) -> ColumnType:
        """What lies in the buffers of a batch."""
        return self.codes or self.type


def read_fields(schema: Table) -> list[Field]:
    """The columns by a stream's schema; raises Malformed, TooLarge."""
    if schema.scalar(0, "short") != 0:
        raise broken("its numbers are big-endian")
    if schema.count(1) > MOST_COLUMNS:
        raise TooLarge(f"At most {MOST_COLUMNS} columns", extra={"limit": MOST_COLUMNS})
    return [_field(field) for field in schema.tables(1)]


def _field(field: Table) -> Field:
    name, kind = field.string(0, _LONGEST_NAME), _type(field)
    if field.count(5) and kind.kind in READ:
        raise broken("a flat column has columns of its own")
    encoding = field.table(4)
    if encoding is None:
        return Field(name, kind)
    index = encoding.table(1)
    codes = ColumnType("integer", "i4") if index is None else _integer(index)
    return Field(name, kind, encoding.scalar(0, "long"), codes)


def _integer(told: Table) -> ColumnType:
    bits, signed = told.scalar(0, "int"), told.scalar(1, "ubyte")
    if bits not in (8, 16, 32, 64):
        raise broken(f"an integer of {bits} bits")
    return ColumnType("integer", f"{'i' if signed else 'u'}{bits // 8}")


def _type(field: Table) -> ColumnType:
    number, told = field.scalar(2, "ubyte"), field.table(3)
    if number >= len(_KIND_NAMES) or told is None:
        raise broken("a column has a type that isn't known")
    if number == _INT:
        return _integer(told)
    if number in (_UTF8, _LARGE_UTF8, _UTF8_VIEW):
        return ColumnType("text", {_UTF8: "i4", _LARGE_UTF8: "i8"}.get(number, "view"))
    return _decimal(told) if number == _DECIMAL else _with_unit(number, told)


def _with_unit(number: int, told: Table) -> ColumnType:
    unit = told.scalar(0, "short", 1 if number == _DATE else 0)
    if number == _FLOAT:
        if unit not in (0, 1, 2):
            raise broken("a float of a precision that isn't known")
        return ColumnType("float", ("f2", "f4", "f8")[unit])
    if number == _DATE and unit in (0, 1):
        return ColumnType("moment", ("i4", "i8")[unit], ("D", "ms")[unit])
    if number == _TIMESTAMP and unit in (0, 1, 2, 3):
        return ColumnType("moment", "i8", _UNITS[unit])
    return ColumnType(_KIND_NAMES[number])


def _decimal(told: Table) -> ColumnType:
    scale, bits = told.scalar(1, "int"), told.scalar(2, "int", 128)
    if bits not in (32, 64, 128, 256) or abs(scale) > _MOST_SCALE:
        raise broken(f"a decimal of {bits} bits and a scale of {scale}")
    return ColumnType("decimal", f"V{bits // 8}", scale=scale)


READ: Final = frozenset({"null", "integer", "float", "boolean", "decimal", "moment", "text"})
