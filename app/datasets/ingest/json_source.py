"""JSON records as a relation: one object a row, one of its keys a column.

Types come from the values: strings stay strings even if they look like numbers. A key that a row
lacks is null. Refused as rows: what isn't an object, a key twice, a value that is an object or a
list, NaN and infinities, NUL and lone surrogates. A column that holds strings beside numbers or
booleans becomes one of strings. The rows are written as CSV (strings marked by an apostrophe), the
shorter ones before a key that comes later; the engine reads that.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from app.datasets.ingest.csv_source import without
from app.datasets.ingest.json_text import BadRow, Constant, Element, read_array, read_lines
from app.datasets.ingest.plain_csv import PlainCsv, in_pieces
from app.datasets.ingest.row_errors import RowError, RowErrors
from app.datasets.ingest.table_engine import Beat
from app.datasets.ingest.table_source import (
    Kind,
    SourceColumn,
    TableSource,
    check_names,
    check_width,
    column_name,
)
from app.datasets.ingest_request import ColumnRule, IngestRequest
from app.kernel.errors import Invalid, TooLarge

_MOST_PLANS = 1000
_VALUES = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True)
class _Plan:
    """What to do with rows of one shape: where their values go, and which are marked."""

    places: list[int]
    texts: list[int]
    booleans: list[int]


class _Lines:
    """Where the rows are written; knows the longest, in bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.longest = 0

    def write(self, text: str) -> int:
        line = text.encode()
        self.longest = max(self.longest, len(line))
        return self._file.write(line)


class JsonRows:
    """Turns objects into CSV rows, and remembers of which types the values of a key were."""

    def __init__(self, file: BinaryIO, most_columns: int) -> None:
        self._lines = _Lines(file)
        self._writer = csv.writer(self._lines, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._most = most_columns
        self._places: dict[str, int] = {}
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self.names: list[str] = []
        self.types: list[set[type]] = []

    @property
    def longest(self) -> int:
        """The bytes of the longest row."""
        return self._lines.longest

    def add(self, element: Element) -> None:
        """Write a row. Raises BadRow, and Invalid for a name that can't be used."""
        if not isinstance(element.value, tuple):
            raise BadRow("not_an_object", "a row is an object of columns and values")
        keys = tuple(key for key, _ in element.value)
        cells = [value for _, value in element.value]
        shape = (keys, tuple(map(type, cells)))
        plan = self._plans.get(shape) or self._plan(shape, keys, cells)
        for number in plan.texts:
            cells[number] = f"'{cells[number]}"
            if "\0" in cells[number]:
                raise BadRow("nul", "a NUL character", keys[number])
        for number in plan.booleans:
            cells[number] = "true" if cells[number] else "false"
        row = [None] * len(self.names)
        for place, cell in zip(plan.places, cells, strict=True):
            row[place] = cell
        try:
            self._writer.writerow(row)
        except UnicodeEncodeError as error:
            raise BadRow("lone_surrogate", "a lone surrogate is not text") from error

    def _plan(self, shape: tuple[object, ...], keys: tuple[str, ...], cells: list[Any]) -> _Plan:
        for key, value in zip(keys, cells, strict=True):
            if isinstance(value, Constant):
                raise BadRow("not_finite", f"{value.name} is not JSON: write null", key)
            if type(value) not in _VALUES:
                raise BadRow("nested", "an object or a list is no value", key)
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BadRow("key_twice", "the key is there twice", twice)
        self._make_places([key for key in keys if key not in self._places])
        places = [self._places[key] for key in keys]
        for place, value in zip(places, cells, strict=True):
            self.types[place].add(type(value))
        plan = _Plan(
            places,
            [number for number, value in enumerate(cells) if isinstance(value, str)],
            [number for number, value in enumerate(cells) if isinstance(value, bool)],
        )
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[shape] = plan
        return plan

    def _make_places(self, keys: list[str]) -> None:
        if keys:
            names = [*self.names, *map(column_name, keys)]
            check_width(len(names), self._most)
            check_names(names)
            self._places |= {key: len(self.names) + place for place, key in enumerate(keys)}
            self.names = names
            self.types += [set() for _ in keys]


def open_json(
    request: IngestRequest,
    errors: RowErrors,
    rules: Mapping[str, ColumnRule],
    *,
    work: Path,
    beat: Beat,
) -> TableSource:
    """Read NDJSON or an array of objects; raises Invalid, TooLarge, Malformed."""
    path = work / "rows.csv"
    read = read_lines if request.format == "ndjson" else read_array
    count = 0
    with path.open("wb") as file:
        rows = JsonRows(file, request.limits.max_columns)
        for count, element in enumerate(read(request, beat), start=1):
            if count > request.limits.max_rows:
                raise TooLarge(f"A table may have {request.limits.max_rows} rows")
            try:
                if isinstance(element, BadRow):
                    raise element
                rows.add(element)
            except BadRow as bad:
                error = RowError(count, bad.column, bad.code, bad.reason, element.text)
                errors.add([error], element.text)
    if not rows.names and not errors.rows:
        raise Invalid.at("", "no_rows", "There are no rows with values")
    kept = count - errors.rows
    columns = tuple(
        _column(number, name, rows.types[number], rules.get(name))
        for number, name in enumerate(rows.names)
    )
    row_bytes = path.stat().st_size // max(1, kept)
    written = PlainCsv((path,), len(columns), rows.longest, header=False, padded=True)
    written = in_pieces(written, row_bytes, work=work, beat=beat)
    return TableSource(written.relation(("",), quoted_nulls=True), columns, kept, row_bytes)


def _column(number: int, name: str, types: set[type], rule: ColumnRule | None) -> SourceColumn:
    cell = f"c{number}"
    plain = f"substr({cell}, 2)"
    found = types - {type(None)}
    mixed = False
    kind, value = Kind.STRING, plain
    if found and found <= {int, float}:
        kind, value = Kind.NUMERAL, cell
    elif found == {bool}:
        kind, value = Kind.BOOLEAN, f"({cell} = 'true')"
    elif not found <= {str}:
        mixed, value = True, f"CASE WHEN starts_with({cell}, '''') THEN {plain} ELSE {cell} END"
    text = cell if kind is not Kind.STRING else value
    words = () if rule is None or rule.null_values is None else rule.null_values
    if words:
        value, text = without(value, words, of=text), without(text, words)
    return SourceColumn(name, kind, value, text, blanks=words, mixed=mixed)
