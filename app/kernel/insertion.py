"""An INSERT that is put together once, for those who add rows to a table again and again.

SQLAlchemy puts the parameters of each row together anew, which takes longer than SQLite takes to
write it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Table, insert


class Insertion:
    """Inserts rows that give values for the columns ``names``, by the types of these; thread-safe.

    Nothing is filled in: defaults are those of the database alone. Names are plain identifiers.
    """

    def __init__(self, table: Table, names: Sequence[str], dialect: Dialect) -> None:
        compiled = insert(table).inline().compile(dialect=dialect, column_keys=list(names))
        self._text = str(compiled)
        self._is_positional = bool(compiled.positional)
        self._names = tuple(compiled.positiontup or names)
        types = [table.columns[name].type.dialect_impl(dialect) for name in self._names]
        self._writers = [
            (position, writer)
            for position, type_ in enumerate(types)
            if (writer := type_.bind_processor(dialect)) is not None
        ]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert the rows in the connection's transaction; raises what SQLAlchemy raises."""
        written = [self._written(row) for row in rows]
        if self._is_positional:
            connection.exec_driver_sql(self._text, [tuple(values) for values in written])
        else:
            named = [dict(zip(self._names, values, strict=True)) for values in written]
            connection.exec_driver_sql(self._text, named)

    def _written(self, row: Mapping[str, Any]) -> list[Any]:
        values = [row[name] for name in self._names]
        for position, write in self._writers:
            values[position] = write(values[position])
        return values
