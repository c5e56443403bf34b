"""JSON records as a relation: one object a row, one of its keys a column.

Types come from the values: strings stay strings even if they look like numbers. A key that a row
lacks is null. Refused as rows: what isn't a JSON object, a key twice, a value that is an object or
a list, NaN and infinities, NUL and lone surrogates. A column that holds strings beside numbers or
booleans becomes one of strings. The rows are written as CSV (strings marked by an apostrophe),
shorter ones before a key that comes later; the engine reads that.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from app.datasets.byte_source import TextSource
from app.datasets.csv_source import PlainCsv, without
from app.datasets.ingest_request import ColumnRule, IngestRequest
from app.datasets.row_errors import RowError, RowErrors, invalid_row
from app.datasets.table_engine import Beat
from app.datasets.table_source import (
    Kind,
    SourceColumn,
    TableSource,
    check_names,
    check_width,
    column_name,
)
from app.kernel.errors import Invalid, TooLarge

_SPACE = " \t\n\r"
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
_NUMBERS = frozenset({int, float})
_MOST_PLANS = 1000
_MOST_DIGITS = 4000


class _BadRow(Exception):
    """Why a row is refused."""

    def __init__(self, code: str, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.column = column


class _Rows(Protocol):
    def writerow(self, row: list[Any]) -> object: ...


@dataclass(frozen=True)
class _Plan:
    """What to do with rows of one shape: where their values go, and which are marked."""

    places: list[int]
    texts: list[int]
    booleans: list[int]


class JsonRows:
    """Turns objects into CSV rows, and remembers of which types the values of a key were."""

    def __init__(self, rows: _Rows, most_columns: int) -> None:
        self._rows = rows
        self._most = most_columns
        self._places: dict[str, int] = {}
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self.names: list[str] = []
        self.types: list[set[type]] = []

    def add(self, pairs: tuple[tuple[str, Any], ...], escaped: bool) -> None:
        """Write a row. Raises _BadRow; ``escaped`` says that its text had ``\\u`` in it."""
        keys = tuple(key for key, _ in pairs)
        cells = [value for _, value in pairs]
        shape = (keys, tuple(map(type, cells)))
        plan = self._plans.get(shape) or self._plan(shape, keys, cells)
        for number in plan.texts:
            if escaped:
                _check_text(cells[number], keys[number])
            cells[number] = f"'{cells[number]}"
        for number in plan.booleans:
            cells[number] = "true" if cells[number] else "false"
        row = [None] * len(self.names)
        for place, cell in zip(plan.places, cells, strict=True):
            row[place] = cell
        self._rows.writerow(row)

    def _plan(self, shape: tuple[object, ...], keys: tuple[str, ...], cells: list[Any]) -> _Plan:
        for key, value in zip(keys, cells, strict=True):
            if type(value) not in _PLAIN_TYPES:
                raise _BadRow("nested", "an object or a list is no value", key)
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _BadRow("key_twice", "the key is there twice", twice)
        places = [self._place(key) for key in keys]
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

    def _place(self, key: str) -> int:
        place = self._places.get(key)
        if place is None:
            check_width(len(self.names) + 1, self._most)
            check_names([*self.names, column_name(key)])
            place = self._places[key] = len(self.names)
            self.names.append(column_name(key))
            self.types.append(set())
        return place


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
    records = _lines if request.format == "ndjson" else _elements
    count = longest = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        rows = JsonRows(writer, request.limits.max_columns)
        for record in records(request, beat):
            count += 1
            if count > request.limits.max_rows:
                raise TooLarge(f"A table may have {request.limits.max_rows} rows")
            longest = max(longest, len(record))
            _take(rows, record, count, errors)
    if not count or (not rows.names and not errors.rows):
        raise Invalid.at("", "no_rows", "There are no rows with values")
    kept = count - errors.rows
    columns = tuple(
        _column(number, name, rows.types[number], rules.get(name))
        for number, name in enumerate(rows.names)
    )
    # Quotes and marks add at most a byte a byte, and three a column.
    written = PlainCsv(
        path, len(columns), 8 * longest + 4 * len(columns), header=False, padded=True
    )
    relation = written.relation(("",), quoted_nulls=True) if columns else ""
    return TableSource(relation, columns, kept, path.stat().st_size // max(1, kept))


def _take(rows: JsonRows, record: bytes, number: int, errors: RowErrors) -> None:
    text = ""
    try:
        try:
            text = record.decode()
            value = _DECODER.decode(text)
        except UnicodeDecodeError as error:
            raise _BadRow("not_utf8", "not UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise _BadRow("not_json", f"not JSON: {_why(error)}") from error
        if not isinstance(value, tuple):
            raise _BadRow("not_an_object", "a row is an object of columns and values")
        rows.add(value, "\\u" in text)
    except _BadRow as bad:
        raw = text or record.decode(errors="backslashreplace")
        errors.add([RowError(number, bad.column, bad.code, bad.reason, raw)], raw)


def _lines(request: IngestRequest, beat: Beat) -> Iterator[bytes]:
    """The lines that aren't blank."""
    most = request.limits.max_line_bytes
    carry, count = b"", 0
    for piece in TextSource(request):
        beat()
        *lines, carry = (carry + piece).split(b"\n")
        for line in (*lines, carry[most:] and carry):
            if len(line) > most:
                raise invalid_row(count + 1, "long_line", f"the line has more than {most} bytes")
            if line.strip():
                count += 1
                yield line
    if carry.strip():
        yield carry


def _elements(request: IngestRequest, beat: Beat) -> Iterator[bytes]:
    """The text of each element of the array that the file is."""
    raise NotImplementedError


def _check_text(text: str, key: str) -> None:
    if "\0" in text:
        raise _BadRow("nul", "a NUL character", key)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _BadRow("lone_surrogate", "a lone surrogate is not text", key) from error


def _column(
    number: int, name: str, types: set[type], rule: ColumnRule | None
) -> SourceColumn:
    raise NotImplementedError


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON, write null")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_refuse_constant)
