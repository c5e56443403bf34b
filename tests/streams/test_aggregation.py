"""The fold of aggregate views: parts merge to the whole, to the byte, in any order."""

import json
import math
import random
import statistics
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams.views.aggregation import Aggregation, Groups, digest_of, row_digest
from app.streams.views.measures import FUNCTIONS
from app.streams.views.sketches import MOST_COUNTED, Distinct, Histogram

ALL = Aggregation.of(
    {
        "group_by": ["origin"],
        "measures": [
            {"name": "records", "function": "count"},
            *(
                {"name": name, "function": name, "field": "x", "quantiles": [0.5, 0.9]}
                for name in FUNCTIONS
            ),
        ],
    }
)
_numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80)
_fields = _numbers | st.none() | st.booleans() | st.text(max_size=3) | st.just([1])
_records = st.fixed_dictionaries(
    {"origin": st.sampled_from(["EWR", "JFK", 1, 1.0, True, None, [], "x" * 500])},
    optional={"x": _fields},
)
_values = st.lists(
    st.one_of(
        _records.map(lambda record: json.dumps(record).encode()),
        st.sampled_from([b"", b"3", b"[]", b"{", b"\xff", b'{"origin": 1e999}', b"[" * 9000]),
    ),
    max_size=30,
)


def whole(*parts: Groups) -> Groups:
    """The parts, merged in their order, by way of the texts in which they are stored."""
    rows: dict[str, list[str]] = {}
    for part in parts:
        for key, text in part.rows():
            rows.setdefault(key, []).append(text)
    merged = {key: ALL.merged(texts) or [] for key, texts in rows.items()}
    return Groups(merged, sum(part.records for part in parts), sum(part.skipped for part in parts))


def same(one: Groups, other: Groups) -> bool:
    """Whether two folds have made the same, to the byte."""
    counts = (one.records, one.skipped) == (other.records, other.skipped)
    return counts and list(one.rows()) == list(other.rows()) and one.digest() == other.digest()


@given(_values, _values)
@settings(max_examples=60, deadline=None)
def test_the_fold_of_two_parts_is_the_merge_of_their_folds(one, other):
    assert same(ALL.fold(one + other), whole(ALL.fold(one), ALL.fold(other)))


@given(_values, _values)
@settings(max_examples=40, deadline=None)
def test_which_part_comes_first_changes_nothing(one, other):
    assert same(whole(ALL.fold(one), ALL.fold(other)), whole(ALL.fold(other), ALL.fold(one)))


@given(_values, _values, _values)
@settings(max_examples=40, deadline=None)
def test_which_parts_are_merged_first_changes_nothing(one, other, third):
    parts = [ALL.fold(values) for values in (one, other, third)]
    left = whole(whole(parts[0], parts[1]), parts[2])
    assert same(left, whole(parts[0], whole(parts[1], parts[2])))


@given(_values, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_records_changes_nothing(values, chance):
    shuffled = list(values)
    chance.shuffle(shuffled)
    assert same(ALL.fold(values), ALL.fold(shuffled))


@given(st.lists(_numbers, min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_numbers_are_told_exactly_and_rounded_once(numbers):
    told = told_of({"origin": 1, "x": number} for number in numbers)
    exact = [Fraction(number) for number in numbers]
    assert told["sum"] == rounded(sum(exact))
    assert told["mean"] == rounded(sum(exact) / len(exact))
    assert (told["min"], told["max"]) == (min(numbers), max(numbers))
    variance = rounded(statistics.variance(exact)) if len(exact) > 1 else None
    assert told["variance"] == variance


def rounded(number):
    """A fraction as it is told."""
    try:
        return number.numerator if number.denominator == 1 else float(number)
    except OverflowError:
        return None


def told_of(records) -> dict:
    """What the measures tell of records of one group."""
    groups = ALL.fold(json.dumps(record).encode() for record in records)
    (tallies,) = groups.tallies.values()
    return ALL.told(tallies)


def test_a_sum_of_floats_that_floats_would_lose_is_exact():
    numbers = [1e308, 1.0, 0.1, -1e308] * 3
    assert told_of({"origin": 1, "x": number} for number in numbers)["sum"] == 3.3
    assert sum(numbers) != 3.3


def test_what_a_measure_cannot_take_is_counted():
    records = [{"origin": 1, "x": value} for value in (1, "2", True, None, [3], 4.5)]
    groups = ALL.fold(json.dumps(record).encode() for record in records)
    (tallies,) = groups.tallies.values()
    assert ALL.told(tallies)["count"] == 5
    assert ALL.told(tallies)["sum"] == 5.5
    assert ALL.ignored(tallies) == {
        **dict.fromkeys(("sum", "min", "max", "mean", "variance", "quantiles"), 3),
        "distinct": 1,
    }


def test_records_that_are_of_no_group_are_counted_as_skipped():
    groups = ALL.fold([b"[]", b'{"origin": {}}', b"not JSON", b'{"x": 1}'])
    assert (groups.records, groups.skipped) == (4, 3)
    assert list(groups.tallies) == ["[null]"]


def test_nothing_merges_to_nothing():
    assert ALL.merged([None, None]) is None


@pytest.mark.parametrize("count", [0, 1, MOST_COUNTED])
def test_few_distinct_values_are_counted_exactly(count):
    assert distinct(range(count)).estimate() == count


@pytest.mark.parametrize("count", [MOST_COUNTED + 1, 1000, 10_000, 100_000])
def test_many_distinct_values_are_estimated_to_within_three_standard_errors(count):
    assert abs(distinct(range(count)).estimate() - count) <= 3 * 0.0163 * count


@given(st.lists(st.integers(0, 900), max_size=900), st.lists(st.integers(0, 900), max_size=900))
@settings(max_examples=30, deadline=None)
def test_sketches_of_distinct_values_merge_to_that_of_all(one, other):
    merged = Distinct.load(distinct(one).dump())
    merged.merge(Distinct.load(distinct(other).dump()))
    assert merged.dump() == distinct(one + other).dump()


def distinct(numbers) -> Distinct:
    """A sketch that has seen some numbers."""
    sketch = Distinct()
    for number in numbers:
        sketch.add(str(number))
    return sketch


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9, 0.999])
def test_quantiles_are_within_a_128th_of_the_number_at_that_rank(share):
    chance = random.Random(share)
    numbers = [chance.lognormvariate(3, 4) * chance.choice([1, -1]) for _ in range(5000)]
    wanted = sorted(numbers)[math.ceil(share * len(numbers)) - 1]
    assert histogram(numbers).quantile(share) == pytest.approx(wanted, rel=1 / 128)


def test_what_is_too_small_beside_the_largest_counts_as_nought():
    numbers = [10.0**exponent for exponent in range(-300, 300, 2)]
    told = histogram(numbers)
    assert told.quantile(0.5) == 0.0
    assert told.quantile(1.0) == pytest.approx(10.0**298, rel=1 / 128)
    assert len(told.dump()) < 15


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.floats(allow_nan=False, allow_infinity=False)),
)
@settings(max_examples=50, deadline=None)
def test_histograms_merge_to_that_of_all(one, other):
    merged = Histogram.load(histogram(one).dump())
    merged.merge(Histogram.load(histogram(other).dump()))
    assert merged.dump() == histogram(one + other).dump()


def histogram(numbers) -> Histogram:
    """A histogram that has seen some numbers."""
    made = Histogram()
    for number in numbers:
        made.add(number)
    return made


def test_a_digest_follows_a_row_that_changes():
    values = [b'{"origin": 1, "x": 1}', b'{"origin": 2, "x": 2}']
    before, after = ALL.fold(values), ALL.fold([*values, b'{"origin": 1, "x": 9}'])
    old, new = dict(before.rows())["[1]"], dict(after.rows())["[1]"]
    change = row_digest("[1]", new) - row_digest("[1]", old)
    assert digest_of([change], before.digest()) == after.digest()
