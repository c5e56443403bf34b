"""Writes the streams of this folder: what pyarrow and polars make of one table of every type.

They are no dependencies of ours. In an environment of their own (pyarrow 26, polars 2 then):

    python tests/kernel/arrow_streams/make.py

It also reads what our own writer has written, ``ours.arrows``, and says so if that isn't right.
"""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow import ipc

HERE = Path(__file__).parent
DAYS = [dt.date(2024, 2, 29), None, dt.date(1969, 12, 31)]
CENTS = [Decimal("1.25"), None, Decimal("-3.50")]
TABLE = pa.table(
    {
        "int8": pa.array([1, None, -3], pa.int8()),
        "uint64": pa.array([1, None, 2**63 - 1], pa.uint64()),
        "int64": pa.array([2**60, 1, None]),
        "half": pa.array([1.5, None, 2.0], pa.float16()),
        "float": pa.array([1.5, None, 2.0], pa.float32()),
        "double": pa.array([0.1, None, -2.5]),
        "bool": pa.array([True, None, False]),
        "text": pa.array(["a", "", None]),
        "large": pa.array(["é漢", "x", None], pa.large_utf8()),
        "view": pa.array(["more than twelve bytes", "x", None], pa.string_view()),
        "coded": pa.array(["b", "a", None]).dictionary_encode(),
        "decimal": pa.array(CENTS),
        "wide": pa.array(CENTS, pa.decimal256(50, 2)),
        "date32": pa.array(DAYS),
        "date64": pa.array(DAYS, pa.date64()),
        "seconds": pa.array([1, None, -1], pa.timestamp("s")),
        "zoned": pa.array([1, None, -1], pa.timestamp("us", "Europe/Berlin")),
        "nanos": pa.array([1, None, -1], pa.timestamp("ns")),
        "nothing": pa.nulls(3),
    }
)
NOT_IN_POLARS = ["wide", "nothing", "half", "date64"]
FAULTY = {
    "past": pa.array([1, 2**63], pa.uint64()),
    "endless": pa.array([1.0, float("inf")]),
    "nan": pa.array([1.0, float("nan")], pa.float32()),
    "fraction": pa.array([1.0, 1.5]),
    "cents": pa.array([Decimal("1.00"), Decimal("1.25")]),
    "digits": pa.array([Decimal(1), Decimal(2**63)]),
    "late": pa.array([1, 2**50], pa.timestamp("s")),
    "nul": pa.array(["a", "a\0"]),
    "day": pa.array(["2024-02-29", "2024-02-30"]),
    "gap": pa.array([1, None]),
}
REFUSED = {
    "list": pa.array([[1]]),
    "struct": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
    "binary": pa.array([b"a"]),
    "time of day": pa.array([1], pa.time32("s")),
    "duration": pa.array([1], pa.duration("s")),
    "dictionary of integer": pa.array([1]).dictionary_encode(),
}
# As many texts as codes of eight bits have numbers for, and rows without any.
FULL = {
    "coded": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 127] * 50, pa.int8()), pa.array([str(n) for n in range(128)])
    )
}


def main() -> None:
    """Write and compare."""
    with ipc.new_stream(HERE / "pyarrow.arrows", TABLE.schema) as writer:
        writer.write_table(TABLE)
        writer.write_table(TABLE.slice(1))
    pl.from_arrow(TABLE.drop(NOT_IN_POLARS)).write_ipc_stream(HERE / "polars.arrows")
    for name, columns in (("faulty", FAULTY), ("refused", REFUSED), ("full", FULL)):
        with ipc.new_stream(HERE / f"{name}.arrows", pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns))
    options = ipc.IpcWriteOptions(compression="zstd")
    few = TABLE.select(["text", "double"])
    with ipc.new_stream(HERE / "compressed.arrows", few.schema, options=options) as writer:
        writer.write_table(few)
    ours = ipc.open_stream((HERE / "ours.arrows").read_bytes()).read_all()
    ours.validate(full=True)
    assert ours.to_pydict() == {
        "prediction": ["a", "é漢", ""],
        "probability_a": [0.1, 0.2, 1.0],
        "cluster": [1, -2, 3],
        "outlier": [True, False, True],
    }
    assert pl.from_arrow(ours).equals(pl.read_ipc_stream(HERE / "ours.arrows"))


if __name__ == "__main__":
    main()
