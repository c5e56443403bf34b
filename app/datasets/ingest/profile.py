"""What a stored table's columns look like: counts, extremes, moments, quantiles, histograms.

Counts, distinct values, extremes and the most frequent values are exact. Moments are summed in row
order by one thread, so that they are the same in every run. Quantiles are exact up to
``MOST_EXACT_ROWS`` rows; of more they are those of a sample that depends on row numbers alone, and
the column is marked ``sampled``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from app.datasets.ingest.stored_table import AT_ONCE, StoredColumn, StoredTable
from app.datasets.ingest.table_engine import select, stacked

MOST_EXACT_ROWS = 1_000_000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_TOP_VALUES = 10
MOST_BINS = 20
_LONGEST_TEXT, _LONG_BYTES = 200, 1000
_CELLS = 2_000_000  # of one query, whose values are held in memory
_SPREAD, _SPREAD_END = 2_654_435_761, 1 << 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_STAMP = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LARGEST_INTEGER = (1 << 63) - 1
_EASY = 1e100  # squares and sums of numbers up to here stay finite
Profile = dict[str, Any]


def profile(table: StoredTable, threads: int) -> list[Profile]:
    """A profile per column, in order, as JSON values; leaves the engine at so many threads."""
    (rows,) = table.engine.row(select(["count(*)"], table.relation))
    profiles = [_Column(column, longest) for column, longest in _longest(table)]
    _count(table, profiles, rows)
    ordered = [one for one in profiles if one.has_order]
    _add_histograms(table, ordered, rows)
    _add_quantiles(table, ordered, rows)
    table.engine.use_threads(1)
    _add_moments(table, [one for one in ordered if one.column.type != "datetime"])
    table.engine.use_threads(threads)
    return [one.told() for one in profiles]


class _Column:
    """A column's profile in the making. Its datetimes are microseconds since 1970 until told."""

    def __init__(self, column: StoredColumn, longest: int) -> None:
        self.column = column
        self.value = f"epoch_us({column.cell})" if column.type == "datetime" else column.cell
        self.key = self.value
        if longest > _LONG_BYTES:
            # A table of long texts would not fit into memory: their MD5 tells them apart.
            self.key, self.value = (
                f"md5({column.cell})",
                f"left({column.cell}, {_LONGEST_TEXT + 1})",
            )
        self.profile: Profile = {}
        self.present = 0

    def count(self, rows: int, answer: Sequence[Any]) -> None:
        """Take what was counted of so many rows; the rest of the profile is still empty."""
        missing, distinct, least, most, top = answer
        self.profile = {
            "name": self.column.name,
            "type": self.column.type,
            "nullable": missing > 0,
            "missing": missing,
            "distinct": distinct,
            "min": least,
            "max": most,
            "mean": None,
            "std": None,
            "quantiles": None,
            "top_values": [{"value": one["value"], "count": -one["rank"]} for one in top or ()],
            "histogram": None,
            "sampled": False,
        }
        self.present = rows - missing

    @property
    def has_order(self) -> bool:
        """Whether it has values of which there can be quantiles and a histogram."""
        return bool(self.present) and self.column.type in {"integer", "number", "datetime"}

    @property
    def scale(self) -> float:
        """The power of two by which numbers must be divided before they are summed or squared."""
        largest = max(abs(self.profile["min"]), abs(self.profile["max"]))
        if self.column.type != "number" or largest == 0 or 1 / _EASY <= largest <= _EASY:
            return 1.0
        return math.ldexp(1.0, math.frexp(largest)[1] - 1)

    @property
    def scaled(self) -> str:
        """SQL of the value as a float, divided by ``scale``."""
        double = f"CAST({self.value} AS DOUBLE)"
        return double if self.scale == 1.0 else f"({double} / {_float(self.scale)})"

    @property
    def above_least(self) -> str:
        """SQL of an integer's distance from the smallest one."""
        least, most = self.profile["min"], self.profile["max"]
        wide = "HUGEINT" if most - least > _LARGEST_INTEGER else "BIGINT"
        return f"(CAST({self.value} AS {wide}) - CAST('{least}' AS {wide}))"

    @property
    def moments(self) -> tuple[str, str]:
        """SQL of the sum of integers or the scaled mean of floats, and of the deviation."""
        if self.column.type == "number":
            return f"favg({self.scaled})", f"stddev_samp({self.scaled})"
        # Large integers differ by less than their floats do.
        return f"sum({self.value})", f"stddev_samp(CAST({self.above_least} AS DOUBLE))"

    def bins(self) -> tuple[str, list[Any]]:
        """SQL of the number of a value's bin, and the edges of all bins."""
        return self._number_bins() if self.column.type == "number" else self._whole_bins()

    def _number_bins(self) -> tuple[str, list[float]]:
        least, most = self.profile["min"] / self.scale, self.profile["max"] / self.scale
        if least == most:
            return "0", [self.profile["min"], self.profile["max"]]
        width = (most - least) / MOST_BINS
        inner = [(least + width * number) * self.scale for number in range(1, MOST_BINS)]
        place = f"floor(({self.scaled} - {_float(least)}) / {_float(width)})"
        edges = [self.profile["min"], *inner, self.profile["max"]]
        return f"least({place}, {MOST_BINS - 1})", edges

    def _whole_bins(self) -> tuple[str, list[int]]:
        least, most = self.profile["min"], self.profile["max"]
        width = -(-(most - least + 1) // MOST_BINS)
        bins = (most - least) // width + 1
        end = _LAST_STAMP if self.column.type == "datetime" else _LARGEST_INTEGER
        edges = [min(least + width * number, end) for number in range(bins + 1)]
        return f"{self.above_least} // {width}", edges

    def told(self) -> Profile:
        """The profile as JSON values."""
        show = _SHOWN.get(self.column.type)
        if show is None or not self.present:
            return self.profile
        told = dict(self.profile)
        told["min"], told["max"] = show(told["min"]), show(told["max"])
        told["top_values"] = [
            {"value": show(top["value"]), "count": top["count"]} for top in told["top_values"]
        ]
        if told["quantiles"] is not None:
            told["quantiles"] = {key: show(value) for key, value in told["quantiles"].items()}
        if told["histogram"] is not None:
            told["histogram"] = {
                **told["histogram"],
                "edges": [show(edge) for edge in told["histogram"]["edges"]],
            }
        return told


def _stamp(microseconds: int) -> str:
    text = (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


_SHOWN: dict[str, Callable[[Any], str]] = {"datetime": _stamp, "string": _shortened}


def _longest(table: StoredTable) -> Iterator[tuple[StoredColumn, int]]:
    """Every column, with the bytes of its longest string."""
    texts = [column.cell for column in table.columns if column.type == "string"]
    longest: dict[str, int | None] = {}
    for start in range(0, len(texts), AT_ONCE):
        batch = texts[start : start + AT_ONCE]
        found = table.engine.row(select([f"max(strlen({cell}))" for cell in batch], table.relation))
        longest |= dict(zip(batch, found, strict=True))
    return ((column, longest.get(column.cell) or 0) for column in table.columns)


def _count(table: StoredTable, columns: Sequence[_Column], rows: int) -> None:
    """Count missing and distinct values, find the extremes and the most frequent values."""
    by_rank = "rank: -count, value: value, key: key"
    for batch in _batches(columns, rows):
        keyed = [{"key": one.key, "value": one.value} for one in batch]
        grouped = ["number", "key", "any_value(value) AS value", "count(*) AS count"]
        groups = f"{select(grouped, f'({stacked(keyed, table.relation)})')} GROUP BY number, key"
        told = [
            "number",
            "coalesce(sum(count) FILTER (key IS NULL), 0)::BIGINT",
            "count(key)",
            "min(value)",
            "max(value)",
            f"min({{{by_rank}}}, {MOST_TOP_VALUES}) FILTER (key IS NOT NULL)",
        ]
        for number, *answer in table.engine.rows(f"{select(told, f'({groups})')} GROUP BY number"):
            batch[number].count(rows, answer)


def _batches(columns: Sequence[_Column], rows: int) -> Iterator[list[_Column]]:
    """Columns of one type to be asked for in one query: one at a time where there are many rows."""
    at_once = max(1, min(AT_ONCE, _CELLS // rows)) if rows else AT_ONCE
    for type_ in dict.fromkeys(one.column.type for one in columns):
        found = [one for one in columns if one.column.type == type_]
        for start in range(0, len(found), at_once):
            yield found[start : start + at_once]


def _add_histograms(table: StoredTable, columns: Sequence[_Column], rows: int) -> None:
    """Count the values in bins of one width; a bin holds its lower edge, the last both."""
    for batch in _batches(columns, rows):
        bins = [one.bins() for one in batch]
        cells = [
            {"bin": f"CASE WHEN {one.value} IS NOT NULL THEN CAST({bin_} AS INTEGER) END"}
            for one, (bin_, _) in zip(batch, bins, strict=True)
        ]
        for one, (_, edges) in zip(batch, bins, strict=True):
            one.profile["histogram"] = {"edges": edges, "counts": [0] * (len(edges) - 1)}
        counted = select(
            ["number", "bin", "count(*)"],
            f"({stacked(cells, table.relation)})",
            where="bin IS NOT NULL",
        )
        for number, bin_, count in table.engine.rows(f"{counted} GROUP BY number, bin"):
            batch[number].profile["histogram"]["counts"][bin_] = count


def _add_quantiles(table: StoredTable, columns: list[_Column], rows: int) -> None:
    sampled = rows > MOST_EXACT_ROWS
    relation = _sample(table.relation, rows) if sampled else table.relation
    at_once = max(1, min(AT_ONCE, _CELLS // rows)) if rows else AT_ONCE
    wanted = f"[{', '.join(map(str, QUANTILES))}]"
    for start in range(0, len(columns), at_once):
        batch = columns[start : start + at_once]
        asked = [
            f"quantile_disc({one.value}, {wanted})"
            if one.column.type == "datetime"
            else f"quantile_cont({one.scaled}, {wanted})"
            for one in batch
        ]
        for one, found in zip(batch, table.engine.row(select(asked, relation)), strict=True):
            scale = one.scale if one.column.type != "datetime" else 1
            one.profile["sampled"] = sampled
            if found is not None:
                one.profile["quantiles"] = {
                    str(quantile): value * scale
                    for quantile, value in zip(QUANTILES, found, strict=True)
                }


def _sample(relation: str, rows: int) -> str:
    """About ``MOST_EXACT_ROWS`` rows, spread evenly and always the same."""
    threshold = _SPREAD_END * MOST_EXACT_ROWS // rows
    numbered = select(["row_number() OVER () AS row_number", "*"], relation)
    chosen = f"(row_number * {_SPREAD}) % {_SPREAD_END} < {threshold}"
    return f"({select(['*'], f'({numbered})', where=chosen)})"


def _add_moments(table: StoredTable, columns: list[_Column]) -> None:
    for start in range(0, len(columns), AT_ONCE):
        batch = columns[start : start + AT_ONCE]
        asked = [sql for one in batch for sql in one.moments]
        found = iter(table.engine.row(select(asked, table.relation)))
        for one, mean, deviation in zip(batch, found, found, strict=True):
            exact = one.column.type == "integer"
            one.profile["mean"] = mean / one.present if exact else mean * one.scale
            one.profile["std"] = None if deviation is None else deviation * one.scale


def _float(number: float) -> str:
    return f"CAST('{number!r}' AS DOUBLE)"
