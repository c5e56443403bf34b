"""The prepared frame: what a pipeline is fitted on and later asked about, made from raw columns.

A *recipe* lists the prepared columns in order. scikit-learn has no transformer for types, missing
values and parts of dates, so this module does that part, for training (numpy arrays out of DuckDB)
and for serving (Python values out of JSON), with the same result to the last bit:

===========  ======================================================================================
kind         result
===========  ======================================================================================
number       float64. Integers past 2**53 are rounded to the nearest float64, booleans are 0 and 1.
             Missing, NaN, infinite and beyond float64: NaN
category     object: ``str``, missing is ``numpy.nan``. Strings are kept as they are, '' too (no
             trimming, no Unicode normalisation). Booleans are 'true' and 'false'; numbers are
             written as Python does, whole ones without a fraction ('3', '2.5')
text         object: ``str`` as for category, missing is ''
date_part    float64 of the moment in UTC: hour 0-23, weekday 0-6 from Monday, day 1-31, month
             1-12, year, epoch in seconds with microseconds. Missing: NaN
===========  ======================================================================================

A moment is an RFC 3339 string, a ``datetime`` or a ``numpy.datetime64``; one without an offset is
in UTC; what is finer than a microsecond is cut off. Whole columns that are declared as numbers
must come as floats also where JSON writes ``3``, if they exceed 2**53 and serve as a category.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.errors import Invalid

KINDS: Final = ("number", "category", "date_part", "text")
PARTS: Final = ("hour", "weekday", "day", "month", "year", "epoch")
NAN: Final = float("nan")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Column = Sequence[object] | NDArray[Any]


@dataclass(frozen=True)
class PreparedColumn:
    """One column of the prepared frame: how it is called, and what it is made from."""

    name: str
    source: str
    kind: str
    part: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Invalid.at("/kind", "unknown", f"unknown kind {self.kind!r}", list(KINDS))
        if (self.kind == "date_part") != (self.part is not None):
            raise Invalid.at("/part", "part", "a date_part, and nothing else, names its part")
        if self.part is not None and self.part not in PARTS:
            raise Invalid.at("/part", "unknown", f"unknown part {self.part!r}", list(PARTS))

    def as_dict(self) -> dict[str, str]:
        """The form in JSON."""
        told = {"name": self.name, "source": self.source, "kind": self.kind}
        return told if self.part is None else {**told, "part": self.part}


@dataclass(frozen=True)
class Recipe:
    """The prepared columns, in the order in which the pipeline sees them."""

    columns: tuple[PreparedColumn, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or len(set(names)) < len(names):
            raise Invalid.at("", "names", "a recipe has columns, each with a name of its own")

    @classmethod
    def from_list(cls, items: Sequence[Mapping[str, Any]]) -> "Recipe":
        """From the JSON list; refuses unknown kinds, parts and keys with ``Invalid``."""
        try:
            return cls(tuple(PreparedColumn(**item) for item in items))
        except TypeError as error:
            raise Invalid(f"not a recipe: {error}") from error

    def as_list(self) -> list[dict[str, str]]:
        """The JSON list; ``from_list`` gives the recipe back."""
        return [column.as_dict() for column in self.columns]

    def __iter__(self) -> Iterator[PreparedColumn]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def names(self) -> list[str]:
        """The names of the prepared columns, in order."""
        return [column.name for column in self.columns]

    @property
    def sources(self) -> list[str]:
        """The raw columns that are needed, each once, in order of first use."""
        return list(dict.fromkeys(column.source for column in self.columns))


def prepare(recipe: Recipe, columns: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
    """Make the prepared columns, in order, from raw ones.

    A raw column is a sequence of Python values (None is missing) or a numpy array, masked where
    missing, as ``fetchnumpy`` gives it. ``columns`` may hold more than the recipe needs. Raises
    ``Invalid`` for a column that is absent, of another length, or holds a value that cannot be
    read as its kind.
    """
    rows_of(recipe, columns)
    return {column.name: prepare_column(column, columns[column.source]) for column in recipe}


def rows_of(recipe: Recipe, columns: Mapping[str, Column]) -> int:
    """How many rows the raw columns have; raises ``Invalid`` for absent and uneven columns."""
    rows: int | None = None
    for source in recipe.sources:
        if source not in columns:
            raise refused(source, "missing", "the column is absent")
        here = len(columns[source])
        rows = here if rows is None else rows
        if here != rows:
            raise refused(source, "length", f"{here} rows where others have {rows}")
    return rows or 0


def prepare_column(column: PreparedColumn, raw: Column) -> NDArray[Any]:
    """One prepared column; what ``prepare`` does for each."""
    if isinstance(raw, np.ndarray):
        fast = _prepare_array(column, raw)
    else:
        fast = _plain_numbers(raw) if column.kind == "number" else None
    if fast is not None:
        return fast
    values = prepare_values(column, raw)
    if column.kind == "category":
        values = [np.nan if value is None else value for value in values]
    return np.array(values, dtype=object if column.kind in {"category", "text"} else np.float64)


def prepare_values(column: PreparedColumn, raw: Column) -> list[Any]:
    """One prepared column as a list, in which a missing category is None instead of NaN."""
    if isinstance(raw, np.ndarray):
        raw = list(raw) if raw.dtype.kind == "M" else raw.tolist()
    # Strings, the bulk of what comes here, are already what a category or a text should be.
    if column.kind in {"category", "text"} and _AS_THEY_ARE[column.kind].issuperset(map(type, raw)):
        return list(raw)
    convert = converter(column)
    values: list[Any] = []
    try:
        values += map(convert, raw)
    except (TypeError, ValueError) as error:
        raise refused(column.source, "type", f"row {len(values)}: {error}") from error
    return values


def converter(column: PreparedColumn) -> Callable[[object], Any]:
    """What turns one raw value into the prepared one, for callers that go row by row.

    The same as ``prepare`` for one value, except that a missing category is None. Raises
    ``TypeError`` or ``ValueError`` for a value that cannot be read as the column's kind.
    """
    if column.kind == "number":
        return as_number
    if column.kind == "category":
        return as_category
    if column.kind == "text":
        return as_text
    return _PART_OF_MOMENT[column.part or ""]


def as_number(value: object) -> float:
    """A raw value as a number; NaN where it is missing or not finite."""
    if type(value) is float:
        return value if math.isfinite(value) else NAN
    if value is None:
        return NAN
    plain = _plain(value)
    if not isinstance(plain, (int, float)):
        raise TypeError(f"a number was expected, not {_shown(value)}")
    try:
        converted = float(plain)
    except OverflowError:
        return NAN
    return converted if math.isfinite(converted) else NAN


def as_category(value: object) -> str | None:
    """A raw value as the name of its category; None where it is missing."""
    if type(value) is str or value is None:
        return value
    plain = _plain(value)
    if isinstance(plain, str):
        return str(plain)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, int):
        return str(int(plain))
    if isinstance(plain, float):
        return _written(plain)
    raise TypeError(f"a string, number or boolean was expected, not {_shown(value)}")


def as_text(value: object) -> str:
    """A raw value as text; '' where it is missing."""
    return as_category(value) or ""


def as_moment(value: object) -> datetime | None:
    """A raw value as a moment in UTC; None where it is missing."""
    if value is None:
        return None
    if isinstance(value, np.datetime64):
        return as_moment(value.astype("datetime64[us]").item())
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("z", "Z"))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        try:
            return value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("a moment outside of the years 1 to 9999") from error
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise TypeError(f"a moment was expected, not {_shown(value)}")


def _part(read: Callable[[datetime], float]) -> Callable[[object], float]:
    def part_of(value: object) -> float:
        moment = as_moment(value)
        return NAN if moment is None else float(read(moment))

    return part_of


_PART_OF_MOMENT: Final[Mapping[str, Callable[[object], float]]] = {
    "hour": _part(lambda moment: moment.hour),
    "weekday": _part(lambda moment: moment.weekday()),
    "day": _part(lambda moment: moment.day),
    "month": _part(lambda moment: moment.month),
    "year": _part(lambda moment: moment.year),
    "epoch": _part(lambda moment: float((moment - _EPOCH) // _MICROSECOND) / 1e6),
}


def _prepare_array(column: PreparedColumn, raw: NDArray[Any]) -> NDArray[Any] | None:
    if raw.dtype.kind == "M" and column.kind == "date_part":
        return _part_of_array(column.part or "", raw)
    if raw.dtype.kind in "biuf":
        if column.kind == "number":
            return _numbers_of_array(raw)
        if column.kind in {"category", "text"}:
            return _strings_of_numbers(column, raw)
    return None


_AS_THEY_ARE: Final = {"category": frozenset({str, type(None)}), "text": frozenset({str})}
_NUMBER_TYPES: Final = frozenset({float, int, bool, type(None)})


def _plain_numbers(raw: Sequence[object]) -> NDArray[np.float64] | None:
    """What ``as_number`` gives for each value, if numpy alone can do it."""
    if not _NUMBER_TYPES.issuperset(map(type, raw)):
        return None
    try:
        numbers = np.array(raw, dtype=np.float64)
    except OverflowError:
        return None
    numbers[~np.isfinite(numbers)] = NAN
    return numbers


def _numbers_of_array(raw: NDArray[Any]) -> NDArray[np.float64]:
    numbers = np.array(np.ma.getdata(raw), dtype=np.float64)
    numbers[np.ma.getmaskarray(raw) | ~np.isfinite(numbers)] = NAN
    return numbers


def _strings_of_numbers(column: PreparedColumn, raw: NDArray[Any]) -> NDArray[Any]:
    levels, codes = np.unique(np.ma.getdata(raw), return_inverse=True)
    strings = prepare_column(column, levels.tolist())[codes]
    strings[np.ma.getmaskarray(raw)] = np.nan if column.kind == "category" else ""
    return strings


def _part_of_array(part: str, raw: NDArray[Any]) -> NDArray[np.float64]:
    moments = np.ma.getdata(raw).astype("datetime64[us]")
    micros = moments.astype(np.int64)
    if part == "epoch":
        numbers = micros.astype(np.float64) / 1e6
    else:
        numbers = _CALENDAR[part](moments, micros).astype(np.float64)
    numbers[np.ma.getmaskarray(raw) | np.isnat(moments)] = NAN
    return numbers


def _month_of(moments: NDArray[Any]) -> NDArray[np.int64]:
    return moments.astype("datetime64[M]").astype(np.int64)


def _day_of_month(moments: NDArray[Any]) -> NDArray[np.int64]:
    first = moments.astype("datetime64[M]").astype("datetime64[D]")
    days: NDArray[np.int64] = (moments.astype("datetime64[D]") - first).astype(np.int64)
    return days + 1


_CALENDAR: Final[Mapping[str, Callable[[NDArray[Any], NDArray[np.int64]], NDArray[np.int64]]]] = {
    "hour": lambda _, micros: micros // 3_600_000_000 % 24,
    "weekday": lambda _, micros: (micros // 86_400_000_000 + 3) % 7,
    "day": lambda moments, _: _day_of_month(moments),
    "month": lambda moments, _: _month_of(moments) % 12 + 1,
    "year": lambda moments, _: _month_of(moments) // 12 + 1970,
}


def _plain(value: object) -> object:
    """A numpy scalar as the Python value that it stands for; anything else as it is."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        plain: object = value.item()
        return plain
    return value


def _written(number: float) -> str | None:
    if not math.isfinite(number):
        return None
    return str(int(number)) if number.is_integer() else repr(float(number))


def refused(source: str, code: str, detail: str) -> Invalid:
    """The error that tells which raw column cannot be used, and why."""
    pointer = "/" + source.replace("~", "~0").replace("/", "~1")
    return Invalid.at(pointer, code, f"column {source!r}: {detail}")


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.40}"
