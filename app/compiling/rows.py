"""The rows on which a compiled model must agree with scikit-learn.

Most models agree on ordinary rows. So the rows are real ones, and real ones with one value moved to
where implementations differ: onto the thresholds of trees and their neighbours in float64 and
float32, to missing, to each category and term that an encoder knows, to categories never seen, to
empty and foreign texts, to integers past 2**24 and 2**53, and ten deviations out.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np

from app.compiling.flow import Plan, Split
from app.scoring.frame import Column, PreparedColumn, Recipe

REAL_ROWS: Final = 1000
SPLITS_TRIED: Final = 500
LEVELS_TRIED: Final = 40
KNOWN_TRIED: Final = 400
TERMS_TRIED: Final = 2000
TERMS_IN_A_TEXT: Final = 10

RawRow = dict[str, Any]

_TEXTS: Final = (
    "",
    " ",
    "É à ñ ß ﬁ İ ı Ǆ 漢字 かな 🎉 e\u0301",
    "A1 b_2 c-3 d.4, (e) — «f»\tg\nh  i",
    "x" * 3000,
)
_LEVELS: Final = ("", " ", "never seen: É漢🎉", "true", "0", "nan", "None")
_WHOLE: Final = (0, 1, -1, 2**24 - 1, 2**24, 2**24 + 1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1)
_MOMENTS: Final = (
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00Z",
    "2024-02-29T12:34:56.789+05:30",
    "2038-01-19T03:14:08Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2023-12-31T23:30:00-01:00",
    "2024-03-01T00:15:00+00:30",
)


def json_value(value: Any) -> Any:
    """A value of a sample as JSON would have it: missing is None, moments are strings."""
    if value is None or value is np.ma.masked:
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else f"{value.astype('datetime64[us]')}Z"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value.isoformat() if isinstance(value, date) else value


def real_rows(sample: Mapping[str, Column], sources: Sequence[str], seed: int) -> list[RawRow]:
    """Some rows of the sample."""
    rows = len(sample[sources[0]])
    chosen = sorted(random.Random(seed).sample(range(rows), min(rows, REAL_ROWS)))  # noqa: S311
    return [{source: json_value(sample[source][row]) for source in sources} for row in chosen]


def split_rows(
    real: Sequence[RawRow], recipe: Recipe, splits: Sequence[Split], seed: int
) -> list[RawRow]:
    """Real rows with one number put onto a threshold, or next to it."""
    draw = random.Random(seed)  # noqa: S311
    numbers = [split for split in splits if recipe.columns[split.origin.column].kind == "number"]
    rows = []
    for split in draw.sample(numbers, min(len(numbers), SPLITS_TRIED)):
        source = recipe.columns[split.origin.column].source
        values = [split.origin.raw(number) for number in neighbours(split.threshold)]
        rows += [{**draw.choice(real), source: value} for value in values if math.isfinite(value)]
    return rows


def neighbours(number: float) -> list[float]:
    """The number, those next to it in float64, and those next to it in float32."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
        near = [
            number,
            np.nextafter(number, -np.inf),
            np.nextafter(number, np.inf),
            single,
            np.nextafter(single, np.float32(-np.inf)),
            np.nextafter(single, np.float32(np.inf)),
        ]
    return [float(one) for one in near if np.isfinite(one)]


def edge_rows(
    real: Sequence[RawRow], recipe: Recipe, inputs: Sequence[Mapping[str, Any]], seed: int
) -> list[RawRow]:
    """Real rows with one value moved to an edge, and one in which all is missing that may be."""
    draw = random.Random(seed)  # noqa: S311
    known = {item["name"]: item for item in inputs}
    rows = []
    nothing = dict(draw.choice(real))
    for source in recipe.sources:
        kinds = [column for column in recipe if column.source == source]
        values = list(_edges(source, kinds, known[source]["type"], real))
        if known[source]["nullable"]:
            values.append(None)
            nothing[source] = None
        rows += [{**draw.choice(real), source: value} for value in values]
    return [*rows, nothing]


def known_rows(real: Sequence[RawRow], recipe: Recipe, plan: Plan, seed: int) -> list[RawRow]:
    """Real rows with each category, or some of the terms, that the encoders know.

    Among thousands of rows there may be none that has the rare ones.
    """
    draw = random.Random(seed)  # noqa: S311
    rows = []
    for column, levels in plan.levels.items():
        prepared = recipe.columns[column]
        if prepared.kind != "category":
            continue
        like = next((row[prepared.source] for row in real if row[prepared.source] is not None), "")
        known = {as_raw(level, like) for level in levels if isinstance(level, str)} - {None}
        tried = draw.sample(sorted(known), min(len(known), KNOWN_TRIED))
        rows += [{**draw.choice(real), prepared.source: value} for value in tried]
    for column, terms in plan.terms.items():
        source = recipe.columns[column].source
        chosen = draw.sample(terms, min(len(terms), TERMS_TRIED))
        for start in range(0, len(chosen), TERMS_IN_A_TEXT):
            text = " ".join(chosen[start : start + TERMS_IN_A_TEXT])
            rows.append({**draw.choice(real), source: text})
    return rows


def as_raw(level: str, like: Any) -> Any:
    """The raw value that is written as this category, of the type of ``like``; None if none is."""
    if isinstance(like, bool):
        return {"true": True, "false": False}.get(level)
    if isinstance(like, (int, float)):
        number = float(level)
        return int(number) if isinstance(like, int) and number.is_integer() else number
    return level


def _edges(
    source: str, columns: Sequence[PreparedColumn], kind: str, real: Sequence[RawRow]
) -> Iterator[Any]:
    """The values of one raw column at which implementations differ."""
    if kind == "datetime":
        yield from _MOMENTS
    elif kind == "boolean":
        yield from (True, False)
    elif kind == "string":
        yield from _LEVELS
        if any(column.kind == "text" for column in columns):
            yield from _TEXTS
        yield from _seen(source, real)
    else:
        yield from _far(source, kind, real)
        if any(column.kind == "category" for column in columns):
            yield from _seen(source, real)


def _seen(source: str, real: Sequence[RawRow]) -> list[Any]:
    """The commonest values of a column."""
    counts: dict[Any, int] = {}
    for row in real:
        counts[row[source]] = counts.get(row[source], 0) + 1
    counts.pop(None, None)
    return sorted(counts, key=lambda value: -counts[value])[:LEVELS_TRIED]


def _far(source: str, kind: str, real: Sequence[RawRow]) -> Iterator[Any]:
    """Numbers of unusual size, for a column of numbers or integers."""
    yield from _WHOLE
    numbers = [float(row[source]) for row in real if row[source] is not None]
    middle, spread = (np.mean(numbers), np.std(numbers)) if numbers else (0.0, 1.0)
    far = [float(middle - 10 * spread), float(middle + 10 * spread)]
    if kind == "integer":
        yield from (int(number) for number in far)
    else:
        yield from far
        yield from (0.1, -0.0, 1e-300, 1e30, -1e30)
