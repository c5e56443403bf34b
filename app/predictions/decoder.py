"""Rows straight from the bytes of a request, by a decoder made for one model's signature.

It says yes only to what ``bodies`` and ``inputs`` accept, and gives the very same values; whatever
it doesn't understand, sound or not, is theirs to read and to judge. So there is one place that
tells clients what is wrong, and a short way for the rest.

What msgspec lets pass and the strict reader doesn't is looked for here: a key twice in an object
(there would be more colons than keys and texts account for), NUL, whole numbers past 64 bits.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

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


class Decoded(NamedTuple):
    """The rows of a request, each in the order of ``names``, and the parts that it wants."""

    names: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    include: Sequence[str] | None

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    @property
    def columns(self) -> Columns:
        """The rows as columns."""
        columns = zip(*self.rows, strict=True)
        return {name: list(column) for name, column in zip(self.names, columns, strict=True)}


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    rows: msgspec.Raw
    include: _INCLUDE | UnsetType = UNSET  # type: ignore[valid-type]
    model: str | UnsetType = UNSET


class _Heading(NamedTuple):
    decoder: "msgspec.json.Decoder[Any]"
    in_order: Callable[[Sequence[Any]], Sequence[Any]] | None
    colons: int


class RowsDecoder:
    """Reads the bodies of one model's requests; thread-safe."""

    def __init__(self, inputs: Sequence[Mapping[str, Any]], most_rows: int) -> None:
        """``inputs`` is that of the signature. Raises ValueError or TypeError for names of columns
        that msgspec can't take."""
        self._inputs = {column["name"]: column for column in inputs}
        self._names = tuple(self._inputs)
        self._length = Meta(min_length=1, max_length=most_rows)
        self._colons = sum(name.count(":") + 1 for name in self._names)
        kinds = [column["type"] for column in inputs]
        self._texts = [place for place, kind in enumerate(kinds) if kind in _TEXTS]
        self._looked_at = [
            (place, CHECKS[kind][0]) for place, kind in enumerate(kinds) if kind in _LOOKED_AT
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
                ("model", str | UnsetType, UNSET),
            ],
            forbid_unknown_fields=True,
        )
        self._objects = msgspec.json.Decoder(body)
        self._table = msgspec.json.Decoder(_Table)
        self._by_heading: dict[tuple[str, ...], _Heading] = {}

    def read(self, body: bytes, model: str | None = None) -> Decoded | None:
        """The rows, or None where the body is to be read by the strict reader.

        ``model`` is what the member of that name says; None where there must not be one.
        """
        if b"\\u0000" in body:
            return None
        named = UNSET if model is None else model
        try:
            return self._read_objects(body, named) or self._read_table(body, named)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _read_objects(self, body: bytes, model: str | UnsetType) -> Decoded | None:
        try:
            found: Any = self._objects.decode(body)
        except msgspec.ValidationError:
            return None
        if found.model != model:
            return None
        rows = [astuple(row) for row in found.inputs]
        keys = len(rows) * self._colons + 1 + (model is not UNSET)
        return self._sound(body, rows, found.include, keys)

    def _read_table(self, body: bytes, model: str | UnsetType) -> Decoded | None:
        found = self._table.decode(body)
        if found.model != model:
            return None
        names = tuple(found.columns)
        heading = self._by_heading.get(names) or self._learn(names)
        if heading is None:
            return None
        rows = heading.decoder.decode(found.rows)
        if heading.in_order is not None:
            rows = [heading.in_order(row) for row in rows]
        keys = 2 + (model is not UNSET) + heading.colons
        return self._sound(body, rows, found.include, keys)

    def _learn(self, names: tuple[str, ...]) -> "_Heading | None":
        """A decoder of rows in the order of a heading, if it names every column once."""
        if len(names) != len(self._names) or set(names) != set(self._names):
            return None
        cells = tuple[tuple(_type(self._inputs[name]) for name in names)]  # type: ignore[misc, valid-type]
        decoder = msgspec.json.Decoder(Annotated[list[cells], self._length])  # type: ignore[valid-type]
        order = None if names == self._names else itemgetter(*map(names.index, self._names))
        heading = _Heading(decoder, order, sum(name.count(":") for name in names))
        if len(self._by_heading) < _HEADINGS:
            self._by_heading[names] = heading
        return heading

    def _sound(
        self, body: bytes, rows: Sequence[Sequence[Any]], include: Any, colons: int
    ) -> Decoded | None:
        for place, is_sound in self._looked_at:
            for row in rows:
                if row[place] is not None and not is_sound(row[place]):
                    return None
        wanted = None if include is UNSET else include
        others = body.count(b":") - colons - (wanted is not None)
        if others:
            for place in self._texts:
                others -= sum(row[place].count(":") for row in rows if row[place] is not None)
        return None if others else Decoded(self._names, rows, wanted)


def _type(column: Mapping[str, Any]) -> Any:
    kind = _TYPES[column["type"]]
    return kind | None if column["nullable"] else kind
