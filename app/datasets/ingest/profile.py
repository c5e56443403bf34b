"""What a stored table's columns look like: counts, extremes, moments, quantiles, histograms.

Counts, distinct values, extremes and the most frequent values are exact. So are the moments of
integers, but for a last rounding; those of floats are summed in row order by one thread, so that
they are the same in every run. Quantiles are exact up to some number of rows; of more they are
those of a sample that depends on row numbers alone (sampling), and the column is marked
``sampled``.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.datasets.ingest.sampling import SPREAD, SPREAD_END, is_sampled, spread_threshold
from app.datasets.ingest.stored_table import AT_ONCE, StoredColumn, StoredTable
from app.datasets.ingest.table_engine import select, stacked

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_TOP_VALUES = 10
MOST_BINS = 20
_LONGEST_TEXT, _LONG_BYTES = 200, 1000
_CELLS = 2_000_000  # of one query, whose values are held in memory
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_STAMP = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LARGEST_INTEGER = (1 << 63) - 1
_EASY = 1e100  # squares and sums of numbers up to here stay finite
_EXACT_RANGE = math.isqrt(_LARGEST_INTEGER)  # squares up to here are integers of 64 bits
Profile = dict[str, Any]


@dataclass(frozen=True)
class CountedColumn:
    """A column that was counted already: ``relation`` has each ``cell`` once, NULL too, and the
    ``times`` it occurs; ``sample`` has the cells of which the quantiles are told."""

    relation: str
    sample: str


def profile(
    table: StoredTable, threads: int, counted: Mapping[str, CountedColumn] | None = None
) -> list[Profile]:
    """A profile per column, in order, as JSON values; leaves the engine at so many threads.

    ``counted`` are columns, by name, for which the table needn't be read.
    """
    (rows,) = table.engine.row(select(["count(*)"], table.relation))
    sample = _sample(table.relation, rows) if is_sampled(rows) else table.relation
    known = counted or {}
    asked = [column for column in table.columns if column.name not in known]
    longest = _longest(table, asked)
    stored = CountedColumn(table.relation, sample)
    profiles = [
        _Column(column, longest.get(column.cell, 0), known.get(column.name, stored), stored)
        for column in table.columns
    ]
    _count(table, profiles, rows)
    ordered = [one for one in profiles if one.has_order]
    _add_histograms(table, ordered, rows)
    _add_quantiles(table, ordered, rows)
    moving = [one for one in ordered if one.column.type != "datetime"]
    _add_exact_moments(table, [one for one in moving if one.is_exact])
    table.engine.use_threads(1)
    _add_moments(table, [one for one in moving if not one.is_exact])
    table.engine.use_threads(threads)
    return [one.told() for one in profiles]


class _Column:
    """A column's profile in the making. Its datetimes are microseconds since 1970 until told."""

    def __init__(
        self, column: StoredColumn, longest: int, source: CountedColumn, stored: CountedColumn
    ) -> None:
        self.source = source
        self.times = None if source is stored else "times"
        self.in_table = column
        if self.times is not None:
            column = replace(column, cell="cell")
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
    def is_exact(self) -> bool:
        """Whether its moments follow from exact sums, in whatever order."""
        least, most = self.profile["min"], self.profile["max"]
        return self.column.type == "integer" and most - least <= _EXACT_RANGE

    @property
    def counts(self) -> dict[str, str]:
        """SQL of how often a cell of the relation occurs, by name; none where it has every row."""
        return {} if self.times is None else {"times": self.times}

    @property
    def occurrences(self) -> str:
        """SQL of how many rows of the table there are."""
        return "count(*)" if self.times is None else f"CAST(sum({self.times}) AS BIGINT)"

    def scaled(self, value: str) -> str:
        """SQL of a value as a float, divided by ``scale``."""
        double = f"CAST({value} AS DOUBLE)"
        return double if self.scale == 1.0 else f"({double} / {_float(self.scale)})"

    def above_least(self, value: str) -> str:
        """SQL of an integer's distance from the smallest one."""
        least, most = self.profile["min"], self.profile["max"]
        wide = "HUGEINT" if most - least > _LARGEST_INTEGER else "BIGINT"
        return f"(CAST({value} AS {wide}) - CAST('{least}' AS {wide}))"

    @property
    def moments(self) -> tuple[str, str]:
        """SQL, of the table, of the sum of integers or the scaled mean of floats, and of the
        deviation."""
        cell = self.in_table.cell
        if self.column.type == "number":
            return f"favg({self.scaled(cell)})", f"stddev_samp({self.scaled(cell)})"
        # Large integers differ by less than their floats do.
        return f"sum({cell})", f"stddev_samp(CAST({self.above_least(cell)} AS DOUBLE))"

    @property
    def exact_sums(self) -> tuple[str, str]:
        """SQL of the sum of the distances from the smallest integer, and of their squares."""
        above = self.above_least(self.value)
        if self.times is None:
            return f"sum({above})", f"sum({above} * {above})"
        return (
            f"sum({above}::HUGEINT * {self.times})",
            f"sum(({above} * {above})::HUGEINT * {self.times})",
        )

    def bins(self) -> tuple[str, list[Any]]:
        """SQL of the number of a value's bin, and the edges of all bins."""
        return self._number_bins() if self.column.type == "number" else self._whole_bins()

    def _number_bins(self) -> tuple[str, list[float]]:
        least, most = self.profile["min"] / self.scale, self.profile["max"] / self.scale
        if least == most:
            return "0", [self.profile["min"], self.profile["max"]]
        width = (most - least) / MOST_BINS
        inner = [(least + width * number) * self.scale for number in range(1, MOST_BINS)]
        place = f"floor(({self.scaled(self.value)} - {_float(least)}) / {_float(width)})"
        edges = [self.profile["min"], *inner, self.profile["max"]]
        return f"least({place}, {MOST_BINS - 1})", edges

    def _whole_bins(self) -> tuple[str, list[int]]:
        least, most = self.profile["min"], self.profile["max"]
        width = -(-(most - least + 1) // MOST_BINS)
        bins = (most - least) // width + 1
        end = _LAST_STAMP if self.column.type == "datetime" else _LARGEST_INTEGER
        edges = [min(least + width * number, end) for number in range(bins + 1)]
        return f"{self.above_least(self.value)} // {width}", edges

    def take_quantiles(self, values: Sequence[Any] | None) -> None:
        """Take what was found, if anything."""
        scale = self.scale if self.column.type != "datetime" else 1
        if values is not None:
            self.profile["quantiles"] = {
                str(quantile): value * scale
                for quantile, value in zip(QUANTILES, values, strict=True)
            }

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


def _longest(table: StoredTable, columns: Sequence[StoredColumn]) -> dict[str, int]:
    """The bytes of the longest string of every column of strings."""
    texts = [column.cell for column in columns if column.type == "string"]
    longest: dict[str, int] = {}
    for start in range(0, len(texts), AT_ONCE):
        batch = texts[start : start + AT_ONCE]
        found = table.engine.row(select([f"max(strlen({cell}))" for cell in batch], table.relation))
        longest |= {text: size or 0 for text, size in zip(batch, found, strict=True)}
    return longest


def _count(table: StoredTable, columns: Sequence[_Column], rows: int) -> None:
    """Count missing and distinct values, find the extremes and the most frequent values."""
    by_rank = "rank: -count, value: value, key: key"
    for batch in _batches(columns, rows):
        keyed = [{"key": one.key, "value": one.value, **one.counts} for one in batch]
        grouped = ["number", "key", "any_value(value) AS value", f"{batch[0].occurrences} AS count"]
        cells = stacked(keyed, batch[0].source.relation)
        groups = f"{select(grouped, f'({cells})')} GROUP BY number, key"
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
    """Columns of one type to be asked for in one query: one at a time where there are many rows,
    or where each was counted by itself."""
    at_once = max(1, min(AT_ONCE, _CELLS // rows)) if rows else AT_ONCE
    for alike in dict.fromkeys((one.column.type, one.source) for one in columns):
        found = [one for one in columns if (one.column.type, one.source) == alike]
        for start in range(0, len(found), at_once):
            yield found[start : start + at_once]


def _add_histograms(table: StoredTable, columns: Sequence[_Column], rows: int) -> None:
    """Count the values in bins of one width; a bin holds its lower edge, the last both."""
    for batch in _batches(columns, rows):
        bins = [one.bins() for one in batch]
        cells = [
            {
                "bin": f"CASE WHEN {one.value} IS NOT NULL THEN CAST({bin_} AS INTEGER) END",
                **one.counts,
            }
            for one, (bin_, _) in zip(batch, bins, strict=True)
        ]
        for one, (_, edges) in zip(batch, bins, strict=True):
            one.profile["histogram"] = {"edges": edges, "counts": [0] * (len(edges) - 1)}
        counted = select(
            ["number", "bin", batch[0].occurrences],
            f"({stacked(cells, batch[0].source.relation)})",
            where="bin IS NOT NULL",
        )
        for number, bin_, count in table.engine.rows(f"{counted} GROUP BY number, bin"):
            batch[number].profile["histogram"]["counts"][bin_] = count


def _add_quantiles(table: StoredTable, columns: Sequence[_Column], rows: int) -> None:
    at_once = max(1, min(AT_ONCE, _CELLS // rows)) if rows else AT_ONCE
    wanted = f"[{', '.join(map(str, QUANTILES))}]"
    for sample in dict.fromkeys(one.source.sample for one in columns):
        found = [one for one in columns if one.source.sample == sample]
        for start in range(0, len(found), at_once):
            batch = found[start : start + at_once]
            asked = [
                f"quantile_disc({one.value}, {wanted})"
                if one.column.type == "datetime"
                else f"quantile_cont({one.scaled(one.value)}, {wanted})"
                for one in batch
            ]
            for one, values in zip(batch, table.engine.row(select(asked, sample)), strict=True):
                one.profile["sampled"] = is_sampled(rows)
                one.take_quantiles(values)


def _sample(relation: str, rows: int) -> str:
    """The rows of the sample."""
    numbered = select(["row_number() OVER () AS row_number", "*"], relation)
    chosen = f"(row_number * {SPREAD}) % {SPREAD_END} < {spread_threshold(rows)}"
    return f"({select(['*'], f'({numbered})', where=chosen)})"


def _add_exact_moments(table: StoredTable, columns: Sequence[_Column]) -> None:
    for source in dict.fromkeys(one.source for one in columns):
        found = [one for one in columns if one.source == source]
        for start in range(0, len(found), AT_ONCE):
            batch = found[start : start + AT_ONCE]
            asked = [sql for one in batch for sql in one.exact_sums]
            sums = iter(table.engine.row(select(asked, source.relation)))
            for one, above, squares in zip(batch, sums, sums, strict=True):
                count = one.present
                one.profile["mean"] = (above + count * one.profile["min"]) / count
                if count > 1:
                    spread = count * squares - above * above
                    one.profile["std"] = math.sqrt(spread / (count * (count - 1)))


def _add_moments(table: StoredTable, columns: Sequence[_Column]) -> None:
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
