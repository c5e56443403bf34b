"""Stored tables on their way out: some rows as JSON values, or the whole as CSV or NDJSON.

CSV is for machines. A missing value is an empty cell; an empty string, and a string that would be
read as missing, is in quotes; so is what has a separator, a quote, a line end or outer spaces in
it. Read again with the column types it gives the same content digest. In a table of one column a
missing value is ``NA``, because blank lines are skipped.

Strings that a spreadsheet would take for formulas (they begin with ``=``, ``+``, ``-``, ``@``, tab
or carriage return) are left as they are: changed, they would be other data. ``spreadsheet=True``
puts an apostrophe before them, for people who open the file in a spreadsheet.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from app.datasets.ingest.cell_words import NULL_WORDS
from app.datasets.ingest.stored_table import StoredColumn, StoredTable
from app.datasets.ingest.table_engine import literal, literals, open_tables, select
from app.datasets.ingest_request import DELIMITERS
from app.kernel.errors import FieldError, Invalid

MOST_ROWS = 10_000
_MOST_BYTES = 16 << 20
_MEMORY = 128 << 20
_PIECE = 1 << 18
_FORMULAS = "=+-@\t\r"
_NEEDS_QUOTES = r'[",\n\r]|^[ \t]|[ \t]$'
_REJECT_KEYS = ["row", "column", "reason", "raw"]
Rows = tuple[list[str], list[dict[str, Any]]]


def read_rows(
    parquet: Path, *, work: Path, offset: int, limit: int, columns: Sequence[str] | None = None
) -> Rows:
    """The names of columns, and ``limit`` rows at most from an offset on, as JSON values.

    Fewer rows where they are large, at least one; none past the end. Datetimes are RFC 3339 in UTC.
    ``columns`` chooses columns, in that order; ``work`` is a folder of this call alone. Raises
    Invalid.
    """
    _check_window(offset, limit)
    with _opened(parquet, work) as table:
        chosen = _chosen(table, columns)
        names = [column.name for column in chosen]
        values = [
            datetime_text(column.cell) if column.type == "datetime" else column.cell
            for column in chosen
        ]
        rows = select(values, table.relation, limit=limit, offset=offset)
        found: list[dict[str, Any]] = []
        room = _MOST_BYTES
        for row in (row for piece in table.engine.stream(rows) for row in piece):
            room -= sum(len(value) if isinstance(value, str) else 8 for value in row)
            if room < 0 and found:
                break
            found.append(dict(zip(names, row, strict=True)))
    return names, found


def read_rejects(rejects: Path, *, offset: int, limit: int) -> Rows:
    """The same of the rows that were put aside: ``row``, ``column``, ``reason`` and ``raw``."""
    _check_window(offset, limit)
    found: list[dict[str, Any]] = []
    room = _MOST_BYTES
    with rejects.open(encoding="utf-8") as file:
        for line in islice(file, offset, offset + limit):
            room -= len(line)
            if room < 0 and found:
                break
            found.append(json.loads(line))
    return list(_REJECT_KEYS), found


def export(
    parquet: Path, format_: str, *, work: Path, spreadsheet: bool = False
) -> Generator[bytes, None, None]:
    """A whole table as ``csv``, ``ndjson`` or ``parquet``, in pieces; close it if not read out."""
    if format_ == "parquet":
        with parquet.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
        return
    with _opened(parquet, work) as table:
        if format_ == "csv":
            yield from _csv(table, spreadsheet=spreadsheet)
        elif format_ == "ndjson":
            yield from _ndjson(table)
        else:
            raise Invalid.at(
                "?format", "not_offered", "No such format", ["csv", "ndjson", "parquet"]
            )


def datetime_text(cell: str) -> str:
    """SQL of a timestamp as RFC 3339 in UTC."""
    return f"(replace(CAST({cell} AS VARCHAR), ' ', 'T') || 'Z')"


def _csv(table: StoredTable, *, spreadsheet: bool) -> Iterator[bytes]:
    missing = literal("NA" if len(table.columns) == 1 else "")
    names = (_guarded(column.name) if spreadsheet else column.name for column in table.columns)
    yield (",".join(map(_quoted_name, names)) + "\n").encode()
    texts = [
        f"coalesce({_csv_text(column, spreadsheet=spreadsheet)}, {missing})"
        for column in table.columns
    ]
    for lines in table.lines(texts, ","):
        yield ("\n".join(lines) + "\n").encode()


def _csv_text(column: StoredColumn, *, spreadsheet: bool) -> str:
    if column.type == "datetime":
        return datetime_text(column.cell)
    if column.type != "string":
        return f"CAST({column.cell} AS VARCHAR)"
    cell = column.cell
    if spreadsheet:
        formula = f"left({cell}, 1) IN {literals(list(_FORMULAS))}"
        cell = f"(CASE WHEN {formula} THEN '''' || {cell} ELSE {cell} END)"
    needed = f"{cell} IN {literals(NULL_WORDS)} OR regexp_matches({cell}, {literal(_NEEDS_QUOTES)})"
    quoted = f"""'"' || replace({cell}, '"', '""') || '"'"""
    return f"CASE WHEN {needed} THEN {quoted} ELSE {cell} END"


def _guarded(name: str) -> str:
    return f"'{name}" if name.startswith(tuple(_FORMULAS)) else name


def _quoted_name(name: str) -> str:
    """A column's name; in quotes also where another delimiter than ours might be seen in it."""
    if not set(name) & {'"', *DELIMITERS}:
        return name
    return '"' + name.replace('"', '""') + '"'


_JSON_TEXT: dict[str, Callable[[str], str]] = {
    "integer": "CAST({0} AS VARCHAR)".format,
    "number": "CAST({0} AS VARCHAR)".format,
    "boolean": "CAST({0} AS VARCHAR)".format,
    "string": "CAST(to_json({0}) AS VARCHAR)".format,
    "datetime": lambda cell: f"""'"' || {datetime_text(cell)} || '"'""",
}


def _ndjson(table: StoredTable) -> Iterator[bytes]:
    texts = []
    for column in table.columns:
        key = literal(f"{json.dumps(column.name, ensure_ascii=False)}:")
        texts.append(f"{key} || coalesce({_JSON_TEXT[column.type](column.cell)}, 'null')")
    for lines in table.lines(texts, ","):
        yield ("{" + "}\n{".join(lines) + "}\n").encode()


def _chosen(table: StoredTable, names: Sequence[str] | None) -> list[StoredColumn]:
    if names is None:
        return list(table.columns)
    columns = {column.name: column for column in table.columns}
    unknown = [
        FieldError("?columns", "unknown_column", f"There is no column {name[:100]!r}", [*columns])
        for name in names
        if name not in columns
    ]
    if unknown:
        raise Invalid("Some columns don't exist", errors=unknown[:20])
    return [columns[name] for name in dict.fromkeys(names)]


def _check_window(offset: int, limit: int) -> None:
    if offset < 0 or not 1 <= limit <= MOST_ROWS:
        raise Invalid.at("?limit", "out_of_range", f"From row 0 on, and 1 to {MOST_ROWS} rows")


@contextmanager
def _opened(parquet: Path, work: Path) -> Iterator[StoredTable]:
    with open_tables([parquet], work=work, memory_bytes=_MEMORY) as engine:
        yield StoredTable.open(engine, parquet)
