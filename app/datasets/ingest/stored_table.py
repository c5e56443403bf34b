"""Reading a table as it is stored: its columns, its rows as lines of text, its digest.

In Parquet: integer BIGINT, number DOUBLE, boolean BOOLEAN, string VARCHAR, datetime TIMESTAMP
(microseconds, UTC without saying so).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.datasets.ingest.table_engine import TableEngine, literal, select
from app.datasets.ingest.table_source import column_name

TYPES = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "string": "VARCHAR",
    "datetime": "TIMESTAMP",
}
AT_ONCE = 64  # columns per query: expressions take memory outside of the engine's limit
_WIDE_ROWS = 2048
_CANONICAL = {
    "integer": "coalesce(CAST({0} AS VARCHAR), '')",
    "number": "coalesce(CAST(CAST(CAST({0} AS BIT) AS BIGINT) AS VARCHAR), '')",
    "boolean": "coalesce(CAST(CAST({0} AS INTEGER) AS VARCHAR), '')",
    "string": "coalesce(CAST(strlen({0}) AS VARCHAR) || ':' || {0}, '')",
    "datetime": "coalesce(CAST(epoch_us({0}) AS VARCHAR), '')",
}


@dataclass(frozen=True)
class StoredColumn:
    """A column: its name, its type, and its SQL in the table's relation."""

    name: str
    type: str
    cell: str


@dataclass(frozen=True)
class StoredTable:
    """A table's relation in an engine that may read its file, and its columns in order."""

    engine: TableEngine
    relation: str
    columns: tuple[StoredColumn, ...]

    @classmethod
    def open(cls, engine: TableEngine, parquet: Path) -> "StoredTable":
        """The table of a Parquet file that this service wrote."""
        file = f"read_parquet({literal(str(parquet))}, hive_partitioning = false)"
        described = engine.rows(f"DESCRIBE {select(['*'], file)}")
        aliases = ", ".join(f"c{number}" for number in range(len(described)))
        types = {sql: name for name, sql in TYPES.items()}
        columns = tuple(
            StoredColumn(column_name(name), types[sql], f"c{number}")
            for number, (name, sql, *_) in enumerate(described)
        )
        return cls(engine, f"{file} AS stored({aliases})", columns)

    def lines(self, texts: Sequence[str], separator: str) -> Iterator[list[str]]:
        """Every row as a text, in order and in pieces: its cells with a separator between.

        ``texts`` is the SQL of each column's cells as text, never NULL.
        """
        parts = [
            f"concat_ws({literal(separator)}, {', '.join(texts[start : start + AT_ONCE])})"
            for start in range(0, len(texts), AT_ONCE)
        ]
        if len(parts) > 1:
            yield from self._wide_lines(parts, separator)
        else:
            for rows in self.engine.stream(select(parts, self.relation)):
                yield [text for (text,) in rows]

    def _wide_lines(self, parts: Sequence[str], separator: str) -> Iterator[list[str]]:
        """The same for many columns: some rows at a time, and of those some columns at a time."""
        (count,) = self.engine.row(select(["count(*)"], self.relation))
        for start in range(0, count, _WIDE_ROWS):
            queries = [
                select([part], self.relation, limit=_WIDE_ROWS, offset=start) for part in parts
            ]
            texts = [[text for (text,) in self.engine.rows(query)] for query in queries]
            yield [separator.join(row) for row in zip(*texts, strict=True)]

    def digest(self) -> str:
        """The digest of the content: column names, types, and values in row order.

        SHA-256 of a JSON list of ``[name, type]``, then a line per row: its cells, separated by
        commas. A cell is empty if missing, else an integer's digits; the bits of a float (IEEE 754)
        read as an integer; ``1`` or ``0``; microseconds since 1970; a string's length in bytes, a
        colon and the string.
        """
        sha256 = hashlib.sha256(digest_header([(one.name, one.type) for one in self.columns]))
        texts = [_CANONICAL[column.type].format(column.cell) for column in self.columns]
        for lines in self.lines(texts, ","):
            sha256.update(("\n".join(lines) + "\n").encode())
        return f"sha-256:{sha256.hexdigest()}"


def digest_header(columns: Sequence[tuple[str, str]]) -> bytes:
    """What a digest begins with: the columns' names and types."""
    return json.dumps(list(columns), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
