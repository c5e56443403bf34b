"""Rows straight from the bytes of a request, by a decoder made for one model's signature.

It says yes only to what ``bodies`` and ``inputs`` accept, and gives the very same values; whatever
it doesn't understand, sound or not, is theirs to read and to judge. So there is one place that
tells clients what is wrong, and a short way for the rest.

What msgspec lets pass and the strict reader doesn't is looked for here: a key twice in an object
(there would be more colons than keys and texts account for), NUL, whole numbers past 64 bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.predictions.inputs import CHECKS, PARTS, Columns

_HEADINGS: Final = 8
_WHOLE: Final = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: Final[Mapping[str, Any]] = {
    "integer": _WHOLE | float,
    "number": _WHOLE | float,
    "boolean": bool,
    "string": str,
    "datetime": str,
}
_LOOKED_AT: Final = frozenset({"integer", "datetime"})
_TEXTS: Final = frozenset({"string", "datetime"})
_INCLUDE: Final = Annotated[list[Literal[PARTS]], Meta(min_length=1, max_length=len(PARTS))]  # type: ignore[valid-type]


@dataclass(frozen=True)
class Decoded:
    """The rows of a request as columns in the signature's order, and the parts that it wants."""

    columns: Columns
    rows: int
    include: Sequence[str] | None


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    rows: msgspec.Raw
    include: _INCLUDE | UnsetType = UNSET  # type: ignore[valid-type]


class RowsDecoder:
    """Reads the bodies of one model's requests; thread-safe."""

    def __init__(self, inputs: Sequence[Mapping[str, Any]], most_rows: int) -> None:
        """``inputs`` is that of the signature. Raises ValueError or TypeError for names of columns
        that msgspec can't take."""
        self._inputs = {column["name"]: column for column in inputs}
        self._names = list(self._inputs)
        self._length = Meta(min_length=1, max_length=most_rows)
        self._colons = sum(name.count(":") + 1 for name in self._names)
        self._texts = [column["name"] for column in inputs if column["type"] in _TEXTS]
        self._looked_at = [
            (column["name"], CHECKS[column["type"]][0])
            for column in inputs
            if column["type"] in _LOOKED_AT
        ]
        fields = [f"c{place}" for place in range(len(self._names))]
        row = msgspec.defstruct(
            "Row",
            [(field, _type(column)) for field, column in zip(fields, inputs, strict=True)],
            rename=dict(zip(fields, self._names, strict=True)),
            forbid_unknown_fields=True,
        )
        body = msgspec.defstruct(
            "Body",
            [
                ("inputs", Annotated[list[row], self._length]),  # type: ignore[valid-type]
                ("include", _INCLUDE | UnsetType, UNSET),
            ],
            forbid_unknown_fields=True,
        )
        self._fields = fields
        self._objects = msgspec.json.Decoder(body)
        self._table = msgspec.json.Decoder(_Table)
        self._by_heading: dict[tuple[str, ...], msgspec.json.Decoder[Any]] = {}

    def read(self, body: bytes) -> Decoded | None:
        """The rows, or None where the body is to be read by the strict reader."""
        if b"\\u0000" in body:
            return None
        try:
            return self._read_objects(body) or self._read_table(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _read_objects(self, body: bytes) -> Decoded | None:
        try:
            found: Any = self._objects.decode(body)
        except msgspec.ValidationError:
            return None
        rows = found.inputs
        columns = {
            name: [getattr(row, field) for row in rows]
            for name, field in zip(self._names, self._fields, strict=True)
        }
        keys = len(rows) * self._colons + 1
        return self._sound(body, columns, len(rows), found.include, keys)

    def _read_table(self, body: bytes) -> Decoded | None:
        found = self._table.decode(body)
        heading = tuple(found.columns)
        decoder = self._by_heading.get(heading) or self._learn(heading)
        if decoder is None:
            return None
        rows = decoder.decode(found.rows)
        columns = dict(zip(heading, map(list, zip(*rows, strict=True)), strict=True))
        keys = 2 + sum(name.count(":") for name in heading)
        in_order = {name: columns[name] for name in self._names}
        return self._sound(body, in_order, len(rows), found.include, keys)

    def _learn(self, heading: tuple[str, ...]) -> "msgspec.json.Decoder[Any] | None":
        """A decoder of rows in the order of a heading, if it names every column once."""
        if len(heading) != len(self._names) or set(heading) != set(self._names):
            return None
        cells = tuple[tuple(_type(self._inputs[name]) for name in heading)]  # type: ignore[misc, valid-type]
        decoder = msgspec.json.Decoder(Annotated[list[cells], self._length])  # type: ignore[valid-type]
        if len(self._by_heading) < _HEADINGS:
            self._by_heading[heading] = decoder
        return decoder

    def _sound(
        self, body: bytes, columns: Columns, rows: int, include: Any, colons: int
    ) -> Decoded | None:
        for name, is_sound in self._looked_at:
            if not all(value is None or is_sound(value) for value in columns[name]):
                return None
        wanted = None if include is UNSET else include
        colons += wanted is not None
        for name in self._texts:
            colons += sum(value.count(":") for value in columns[name] if value is not None)
        if body.count(b":") != colons:
            return None
        return Decoded(columns, rows, wanted)


def _type(column: Mapping[str, Any]) -> Any:
    kind = _TYPES[column["type"]]
    return kind | None if column["nullable"] else kind
