"""Parquet files as a relation: their sizes checked before anything is read, their types mapped.

Taken: integers, floats, decimals, booleans, strings (enumerations and UUIDs too), dates and
timestamps; the rest is refused by name. Floats of 32 bits and decimals count as the numbers that
their shortest decimal text means, so that they equal the same table as CSV. Strings are inferred
as those of JSON are.
"""

from collections.abc import Mapping

import duckdb

from app.datasets.ingest.csv_source import without
from app.datasets.ingest.table_engine import TableEngine, literal, select
from app.datasets.ingest.table_source import (
    Kind,
    SourceColumn,
    TableSource,
    check_names,
    check_width,
    column_name,
)
from app.datasets.ingest_request import ColumnRule, IngestLimits, IngestRequest
from app.kernel.errors import FieldError, Invalid, TooLarge, escape

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_LARGE = {"UBIGINT", "HUGEINT", "UHUGEINT"}
_STRINGS = {"VARCHAR", "UUID", "JSON"}
_STAMPS = {
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_S",
    "TIMESTAMP_MS",
    "TIMESTAMP_NS",
    "TIMESTAMP WITH TIME ZONE",
}
_CELL_BYTES = 8
# The engine's cast rounds; everywhere else what is finer than a microsecond is dropped.
_NANOSECONDS = (
    "CASE WHEN isfinite({0}) THEN make_timestamp("
    "(epoch_ns({0}) - ((epoch_ns({0}) % 1000 + 1000) % 1000)) // 1000)"
    " WHEN {0} IS NOT NULL THEN TIMESTAMP 'infinity' END"
)


def open_parquet(
    engine: TableEngine, request: IngestRequest, rules: Mapping[str, ColumnRule], path: str
) -> TableSource:
    """Check a Parquet file and map its columns; raises Invalid, TooLarge."""
    try:
        return _open(engine, request.limits, rules, path)
    except duckdb.Error as error:
        raise not_parquet(error, path) from error


def not_parquet(error: duckdb.Error, path: str) -> Invalid:
    """The refusal of a file that the engine can't read."""
    reason = str(error).splitlines()[0].replace(path, "the file")
    return Invalid.at("", "not_parquet", f"The file isn't readable Parquet: {reason[:200]}")


def _open(
    engine: TableEngine, limits: IngestLimits, rules: Mapping[str, ColumnRule], path: str
) -> TableSource:
    names = _names(engine, path)
    check_width(len(names), limits.max_columns)
    check_names(names)
    aliases = ", ".join(f"c{number}" for number in range(len(names)))
    options = "hive_partitioning = false, union_by_name = false"
    relation = f"read_parquet({literal(path)}, {options}) AS sent({aliases})"
    types = [str(row[1]) for row in engine.rows(f"DESCRIBE {select(['*'], relation)}")]
    rows = _check_rows(engine, path, len(names), limits)
    columns, refused = [], []
    for number, (name, type_) in enumerate(zip(names, types, strict=True)):
        column = _column(name, type_, f"c{number}", rules.get(name))
        if column is None:
            shown = type_[:100]
            detail = f"Column {name!r} is of the type {shown}, which is not taken"
            refused.append(FieldError(f"/columns/{escape(name)}", "unknown_type", detail))
        else:
            columns.append(column)
    if refused:
        raise Invalid("Some columns have types that are not taken", errors=refused[:20])
    expanded = _check_expanded(engine, relation, types, rows, limits)
    return TableSource(relation, tuple(columns), rows, expanded // rows)


def _names(engine: TableEngine, path: str) -> list[str]:
    """The names as they are in the file: as SQL they might have been changed to differ."""
    schema = engine.rows(select(["name", "num_children"], f"parquet_schema({literal(path)})"))
    names = []
    below = [len(schema)]
    for name, children in schema[1:]:
        while below[-1] == 0:
            below.pop()
        if len(below) == 1:
            names.append(column_name(name))
        below[-1] -= 1
        if children:
            below.append(children)
    return names


def _check_rows(engine: TableEngine, path: str, width: int, limits: IngestLimits) -> int:
    metadata = f"parquet_metadata({literal(path)})"
    (rows,) = engine.row(
        select(["coalesce(sum(num_rows), 0)"], f"parquet_file_metadata({literal(path)})")
    )
    (declared,) = engine.row(select(["coalesce(sum(total_uncompressed_size), 0)"], metadata))
    if not rows:
        raise Invalid.at("", "no_rows", "The file has no rows")
    if rows > limits.max_rows:
        raise TooLarge(f"A table may have {limits.max_rows} rows")
    _check_bytes(max(declared, rows * width), limits)
    return int(rows)


def _check_expanded(
    engine: TableEngine, relation: str, types: list[str], rows: int, limits: IngestLimits
) -> int:
    """The bytes of all values. A dictionary makes long strings cheap to repeat, so they count."""
    strings = [f"c{number}" for number, type_ in enumerate(types) if _is_string(type_)]
    expanded = rows * _CELL_BYTES * (len(types) - len(strings))
    for start in range(0, len(strings), 64):
        sums = [
            f"coalesce(sum(strlen(CAST({cell} AS VARCHAR))), 0)"
            for cell in strings[start : start + 64]
        ]
        expanded += sum(engine.row(select(sums, relation)))
    _check_bytes(expanded, limits)
    return int(expanded)


def _check_bytes(expanded: int, limits: IngestLimits) -> None:
    if expanded > limits.max_expanded_bytes:
        most = limits.max_expanded_bytes
        raise TooLarge(f"A table may expand to {most} bytes", extra={"limit": most})


def _column(name: str, type_: str, cell: str, rule: ColumnRule | None) -> SourceColumn | None:
    mapped = _mapped(type_, cell)
    if mapped is None:
        return None
    kind, value, text = mapped
    words = () if rule is None or rule.null_values is None else rule.null_values
    if words:
        value, text = without(value, words, of=text), without(text, words)
    return SourceColumn(name, kind, value, text, blanks=words)


def _mapped(type_: str, cell: str) -> tuple[Kind, str, str] | None:
    """The kind of a type; a cell's value by that kind, and as text. None for other types."""
    text = f"CAST({cell} AS VARCHAR)"
    mapped = None
    if type_ in _INTEGERS:
        mapped = Kind.INTEGER, f"CAST({cell} AS BIGINT)", text
    elif type_ in _LARGE or type_.startswith("DECIMAL("):
        mapped = Kind.NUMERAL, text, text
    elif type_ in {"FLOAT", "DOUBLE"}:
        mapped = _mapped_float(cell if type_ == "DOUBLE" else f"CAST({text} AS DOUBLE)")
    elif type_ == "BOOLEAN":
        mapped = Kind.BOOLEAN, cell, text
    elif _is_string(type_):
        mapped = Kind.STRING, text, text
    elif type_ in _STAMPS:
        stamp = (
            _NANOSECONDS.format(cell) if type_ == "TIMESTAMP_NS" else f"CAST({cell} AS TIMESTAMP)"
        )
        mapped = Kind.DATETIME, stamp, f"replace(CAST({stamp} AS VARCHAR), ' ', 'T')"
    return mapped


def _mapped_float(double: str) -> tuple[Kind, str, str]:
    whole = f"trunc({double}) = {double} AND abs({double}) <= {1 << 53}"
    short = f"CAST(CAST({double} AS BIGINT) AS VARCHAR)"
    other = f"WHEN NOT isnan({double}) THEN CAST({double} AS VARCHAR)"
    text = f"CASE WHEN {whole} THEN {short} {other} END"
    return Kind.NUMBER, double, text


def _is_string(type_: str) -> bool:
    return type_ in _STRINGS or type_.startswith("ENUM(")
