"""What was counted of a column as tables of the engine, for its profile."""

from typing import Any

import numpy as np

from app.datasets.ingest.profile import CountedColumn
from app.datasets.ingest.regular.arrow_stream import ArrowStream, Buffers
from app.datasets.ingest.regular.counts import TextCounts, ValueCounts
from app.datasets.ingest.table_engine import TableEngine, select


def counted_column(
    engine: TableEngine,
    number: int,
    type_: str,
    counts: ValueCounts | TextCounts,
    sampled: ValueCounts | None,
    missing: int,
) -> CountedColumn:
    """Tables of the values of a column, and of those that were chosen, if not all were."""
    cells, times = _texts(counts) if isinstance(counts, TextCounts) else _values(type_, counts)
    all_ = _table(engine, f"counted_{number}", type_, cells, times, missing)
    if sampled is None:
        return CountedColumn(all_, _repeated(all_))
    cells, times = _values(type_, sampled)
    return CountedColumn(
        all_, _repeated(_table(engine, f"sampled_{number}", type_, cells, times, 0))
    )


def _repeated(table: str) -> str:
    """A relation with each cell as often as it occurs."""
    return f"({select(['cell', 'unnest(range(times))'], table, where='cell IS NOT NULL')})"


def _values(type_: str, counts: ValueCounts) -> tuple[list[Any], Any]:
    values, times = counts.total()
    if type_ == "boolean":
        return [np.packbits(values == 1, bitorder="little")], times
    return [values.view(np.float64) if type_ == "number" else values], times


def _texts(counts: TextCounts) -> tuple[list[Any], Any]:
    total = counts.total()
    offsets = np.zeros(len(total) + 1, np.int32)
    np.cumsum([len(text) for text in total], out=offsets[1:])
    content = b"".join(total) or b"\0"
    times = np.fromiter(total.values(), np.int64, len(total))
    return [offsets, np.frombuffer(content, np.uint8)], times


def _table(
    engine: TableEngine, name: str, type_: str, cells: list[Any], times: Any, missing: int
) -> str:
    buffers: list[Buffers] = [(None, *cells), (None, times)]
    columns = [("cell", type_), ("times", "integer")]
    engine.offer("counted", ArrowStream(columns, iter([(len(times), buffers)])))
    found = select(["cell", "times"], "counted")
    gone = f" UNION ALL VALUES (NULL, {missing})" if missing else ""
    engine.rows(f"CREATE TEMP TABLE {name} AS {found}{gone}")
    return name
