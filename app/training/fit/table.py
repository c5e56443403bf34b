"""Reads the columns of a run from Parquet, by DuckDB, into arrays that are masked if missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

RawColumn = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """Columns of one length, as they are stored; ``types`` are those of the dataset version."""

    columns: Mapping[str, RawColumn]
    types: Mapping[str, str]
    rows: int

    def missing(self, name: str) -> NDArray[np.bool_]:
        """Where the column has no value; a number that is not finite counts as none."""
        raw = self.columns[name]
        missing: NDArray[np.bool_] = np.ma.getmaskarray(raw).copy()
        data = np.ma.getdata(raw)
        if data.dtype.kind == "f":
            missing |= ~np.isfinite(data)
        elif data.dtype.kind == "M":
            missing |= np.isnat(data)
        return missing

    def known(self, name: str) -> RawColumn:
        """The values of the column that are there."""
        values: RawColumn = np.ma.getdata(self.columns[name])[~self.missing(name)]
        return values

    def keep(self, rows: NDArray[np.bool_]) -> "Table":
        """The same columns, these rows only."""
        kept = {name: raw[rows] for name, raw in self.columns.items()}
        return Table(kept, self.types, int(rows.sum()))


def read_table(
    parquet: Path, names: Sequence[str], types: Mapping[str, str], threads: int, memory_bytes: int
) -> Table:
    """These columns of the file, in the order of its rows."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": str(threads),
        "memory_limit": f"{max(memory_bytes >> 20, 64)}MiB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": "",
    }
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    path = str(parquet)
    with duckdb.connect(config=settings) as connection:
        connection.execute("SET allowed_paths = [$path]", {"path": path})
        connection.execute("SET enable_external_access = false")
        query = f"SELECT {quoted} FROM read_parquet($path)"  # noqa: S608 - names are quoted
        columns = connection.execute(query, {"path": path}).fetchnumpy()
    rows = len(columns[names[0]]) if names else 0
    return Table(columns, {name: types[name] for name in names}, rows)
