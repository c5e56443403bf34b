"""The prepared frame is the same from Python values and from numpy arrays."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.errors import Invalid
from app.scoring.frame import PARTS, Recipe, converter, prepare


def one(kind: str, values: Any, part: str | None = None) -> np.ndarray:
    item = {"name": "out", "source": "raw", "kind": kind}
    recipe = Recipe.from_list([item if part is None else {**item, "part": part}])
    return prepare(recipe, {"raw": values})["out"]


def same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.dtype == object:
        missing = [type(value) is float for value in left]
        return (
            left.dtype == right.dtype
            and missing == [type(value) is float for value in right]
            and all(left[i] == right[i] for i, gone in enumerate(missing) if not gone)
        )
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


def masked(values: list[Any], dtype: str) -> np.ma.MaskedArray:
    filler: Any = {"O": None, "M": "2000-01-01"}.get(np.dtype(dtype).kind, 0)
    plain = [filler if value is None else value for value in values]
    return np.ma.MaskedArray(np.array(plain, dtype=dtype), [value is None for value in values])


def columns(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | values, max_size=8)


INTEGERS = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes().filter(lambda moment: 1 < moment.year < 9999)


@given(columns(INTEGERS), st.sampled_from(["number", "category", "text"]))
def test_integers_are_the_same_from_lists_and_arrays(values: list[Any], kind: str) -> None:
    assert same(one(kind, values), one(kind, masked(values, "int64")))


@given(columns(st.floats()), st.sampled_from(["number", "category", "text"]))
def test_floats_are_the_same_from_lists_and_arrays(values: list[Any], kind: str) -> None:
    assert same(one(kind, values), one(kind, masked(values, "float64")))


@given(columns(st.booleans()), st.sampled_from(["number", "category", "text"]))
def test_booleans_are_the_same_from_lists_and_arrays(values: list[Any], kind: str) -> None:
    assert same(one(kind, values), one(kind, masked(values, "bool")))


@given(columns(st.text()), st.sampled_from(["category", "text"]))
def test_strings_are_the_same_from_lists_and_arrays(values: list[Any], kind: str) -> None:
    assert same(one(kind, values), one(kind, masked(values, "object")))


@given(columns(MOMENTS), st.sampled_from(PARTS), st.integers(-1439, 1439))
def test_moments_are_the_same_from_every_spelling(
    values: list[Any], part: str, minutes: int
) -> None:
    def spelt(write: Callable[[datetime], Any]) -> list[Any]:
        return [None if value is None else write(value) for value in values]

    zone = timezone(timedelta(minutes=minutes))
    expected = one("date_part", masked(values, "datetime64[us]"), part)
    aware = spelt(lambda value: value.replace(tzinfo=UTC).astimezone(zone))
    assert same(expected, one("date_part", values, part))
    assert same(expected, one("date_part", aware, part))
    assert same(expected, one("date_part", spelt(lambda value: value.isoformat() + "z"), part))
    assert same(expected, one("date_part", spelt(np.datetime64), part))


@given(columns(INTEGERS | st.floats() | st.booleans() | st.text()))
def test_one_value_at_a_time_gives_what_the_column_gives(values: list[Any]) -> None:
    recipe = Recipe.from_list([{"name": "out", "source": "raw", "kind": "category"}])
    convert = converter(recipe.columns[0])
    alone = [np.nan if (told := convert(value)) is None else told for value in values]
    assert same(one("category", values), np.array(alone, dtype=object))


def test_numbers_outside_of_float64_are_missing() -> None:
    numbers = one("number", [10**400, math.inf, -math.inf, math.nan, None, 2**53 + 1, True])
    assert np.isnan(numbers[:5]).all()
    assert numbers[5:].tolist() == [2.0**53, 1.0]


def test_categories_keep_strings_and_write_numbers_like_python() -> None:
    values = ["", " É", 3, 3.0, -0.0, 2.5, True, 2**53 + 1]
    written = ["", " É", "3", "3", "0", "2.5", "true", "9007199254740993"]
    assert one("category", values).tolist() == written


def test_date_parts_count_from_monday_and_from_one() -> None:
    sunday = ["2013-06-30T23:59:59.999999+00:00"]
    parts = {part: one("date_part", sunday, part)[0] for part in PARTS}
    assert list(parts.values()) == [23, 6, 30, 6, 2013, 1372636799.999999]


def test_moments_before_the_year_one_are_read_from_arrays() -> None:
    ancient = np.array(["-0044-03-15T12:00:00", "NaT"], dtype="datetime64[us]")
    assert one("date_part", ancient, "year")[0] == -44
    assert np.isnan(one("date_part", ancient, "month")).tolist() == [False, True]


def test_duckdb_columns_are_the_same_as_their_python_rows() -> None:
    table = duckdb.connect().sql(
        "select * from (values (1::bigint, 1.5::double, true, 'é', timestamp '1969-12-31 23:00'), "
        "(null, null, null, null, null)) rows(i, d, b, s, t)"
    )
    items = [{"name": name, "source": name, "kind": "category"} for name in "idbs"]
    recipe = Recipe.from_list(
        [*items, {"name": "hour", "source": "t", "kind": "date_part", "part": "hour"}]
    )
    rows = dict(zip("idbst", map(list, zip(*table.fetchall(), strict=True)), strict=True))
    arrays = prepare(recipe, table.fetchnumpy())
    assert all(same(arrays[name], column) for name, column in prepare(recipe, rows).items())


@pytest.mark.parametrize(
    ("kind", "value", "part"),
    [
        ("number", "1.5", None),
        ("number", np.datetime64("2020-01-01T00:00:00", "ns"), None),
        ("category", np.datetime64("2020-01-01T00:00:00", "ns"), None),
        ("category", ["a"], None),
        ("text", {"a": 1}, None),
        ("date_part", "yesterday", "hour"),
        ("date_part", "", "hour"),
        ("date_part", 3, "hour"),
        ("date_part", "0001-01-01T00:00:00+05:00", "hour"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_row(kind: str, value: Any, part: Any) -> None:
    with pytest.raises(Invalid, match="row 1"):
        one(kind, [None, value], part)


def test_absent_and_uneven_columns_are_refused() -> None:
    recipe = Recipe.from_list([{"name": n, "source": n, "kind": "number"} for n in ("a", "b/~")])
    with pytest.raises(Invalid) as absent:
        prepare(recipe, {"a": [1]})
    assert absent.value.errors[0].pointer == "/b~1~0"
    with pytest.raises(Invalid, match="2 rows where others have 1"):
        prepare(recipe, {"a": [1], "b/~": [1, 2]})


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"name": "a", "source": "a"}],
        [{"name": "a", "source": "a", "kind": "nose"}],
        [{"name": "a", "source": "a", "kind": "number", "part": "hour"}],
        [{"name": "a", "source": "a", "kind": "date_part", "part": "century"}],
        [{"name": "a", "source": "a", "kind": "number", "secret": 1}],
        [{"name": "a", "source": "a", "kind": "number"}] * 2,
    ],
)
def test_a_recipe_that_is_none_is_refused(items: list[dict[str, Any]]) -> None:
    with pytest.raises(Invalid):
        Recipe.from_list(items)


def test_a_recipe_survives_json_and_tells_its_sources() -> None:
    items = [
        {"name": "when__hour", "source": "when", "kind": "date_part", "part": "hour"},
        {"name": "mass", "source": "mass", "kind": "number"},
        {"name": "when__day", "source": "when", "kind": "date_part", "part": "day"},
    ]
    recipe = Recipe.from_list(items)
    assert recipe.as_list() == items
    assert recipe.sources == ["when", "mass"]
    assert recipe.names == ["when__hour", "mass", "when__day"]
