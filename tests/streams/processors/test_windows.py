"""The fold of windows: equal to counting by hand, and blind to how records come in batches."""

import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams.processors.windows import (
    Aggregate,
    Gathered,
    TooManyWindows,
    WindowFold,
    Windowing,
)

AGGREGATES = {
    "n": Aggregate("count"),
    "n_x": Aggregate("count", "x"),
    "sum_x": Aggregate("sum", "x"),
    "min_x": Aggregate("min", "x"),
    "max_x": Aggregate("max", "x"),
    "mean_x": Aggregate("mean", "x"),
}
numbers = st.one_of(st.none(), st.integers(-(2**70), 2**70), st.integers(-5, 5))
records = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b""]), st.integers(-60, 200), numbers), max_size=60
)
windowings = st.builds(
    lambda hop, overlap, slack, lateness, on_change: Windowing(
        max(hop, hop * overlap - slack % hop), hop, lateness, AGGREGATES, on_change
    ),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(0, 19),
    st.integers(0, 50),
    st.booleans(),
)


def taken(fold, record):
    key, time, x = record
    return fold.take(key, time, {} if x is None else {"x": x})


def by_hand(windowing, rows):
    """What is in each window, had nothing been late."""
    found = defaultdict(list)
    for key, time, x in rows:
        first = (time - windowing.size) // windowing.hop
        for number in range(first, time // windowing.hop + 1):
            start = number * windowing.hop
            if start <= time < start + windowing.size:
                found[start, key].append(x)
    return found


def told_by_hand(values):
    known = [value for value in values if value is not None]
    return {
        "n": len(values),
        "n_x": len(known),
        "sum_x": sum(known) if known else None,
        "min_x": min(known, default=None),
        "max_x": max(known, default=None),
        "mean_x": sum(known) / len(known) if known else None,
    }


@given(windowings, st.integers())
def test_a_moment_lies_in_exactly_the_windows_that_hold_it(windowing, time):
    starts = list(windowing.starts(time))
    assert starts == sorted(starts)
    assert all(s % windowing.hop == 0 and s <= time < s + windowing.size for s in starts)
    before, after = starts[0] - windowing.hop, starts[-1] + windowing.hop
    assert before + windowing.size <= time < after


@given(windowings, records)
def test_windows_hold_what_counting_by_hand_finds(windowing, rows):
    fold = WindowFold(windowing)
    closed, on_time = {}, []
    for record in sorted(rows, key=lambda row: row[1]):
        told = taken(fold, record)
        assert told is not None
        on_time.append(record)
        closed |= {one.place: one.values for one in told if one.final}
    expected = {place: told_by_hand(xs) for place, xs in by_hand(windowing, on_time).items()}
    still_open = {place: gathered.count for place, gathered in fold.open_windows()}
    assert closed.keys() | still_open.keys() == expected.keys()
    assert not closed.keys() & still_open.keys()
    assert all(expected[place] == values for place, values in closed.items())
    assert all(expected[place]["n"] == count for place, count in still_open.items())


@given(windowings, records)
def test_a_record_is_late_exactly_when_all_its_windows_were_closed_before(windowing, rows):
    fold, watermark, told_closed = WindowFold(windowing), None, []
    for record in rows:
        ends = [start + windowing.size for start in windowing.starts(record[1])]
        told = taken(fold, record)
        is_late = watermark is not None and max(ends) + windowing.lateness <= watermark
        assert (told is None) == is_late
        told_closed += [one.place for one in told or () if one.final]
        watermark = record[1] if watermark is None else max(watermark, record[1])
    # Each window is told as final once, whatever comes afterwards.
    assert len(told_closed) == len(set(told_closed))


@given(windowings, records, st.lists(st.integers(0, 60), max_size=5))
def test_a_fold_that_is_taken_up_from_what_was_kept_goes_on_as_it_would_have(windowing, rows, cuts):
    whole, kept, told_whole, told_cut = WindowFold(windowing), {}, [], []
    cut = WindowFold(windowing)
    for place, record in enumerate(rows):
        if place in cuts:
            for where, gathered in cut.changes():
                kept.pop(where, None)
                if gathered is not None:
                    kept[where] = json.dumps(gathered.as_json())
            windows = [(w, Gathered.from_json(json.loads(text))) for w, text in kept.items()]
            cut = WindowFold(windowing, cut.watermark, windows)
        told_whole.append(taken(whole, record))
        told_cut.append(taken(cut, record))
    assert told_whole == told_cut
    assert list(whole.open_windows()) == list(cut.open_windows())
    assert whole.watermark == cut.watermark


def test_each_change_is_told_where_that_is_asked_for():
    fold = WindowFold(Windowing(10, 10, 0, {"n": Aggregate("count")}, on_change=True))
    told = [one for time in (1, 2, 11) for one in fold.take(b"k", time, {})]
    assert [(one.place.start, one.values["n"], one.final) for one in told] == [
        (0, 1, False),
        (0, 2, False),
        (10, 1, False),
        (0, 2, True),
    ]


def test_a_window_too_many_changes_nothing():
    fold = WindowFold(Windowing(10, 5, 0, {"n": Aggregate("count")}), most=3)
    fold.take(b"a", 7, {})
    before = [(place, gathered.count) for place, gathered in fold.open_windows()]
    with pytest.raises(TooManyWindows):
        fold.take(b"b", 7, {})
    assert [(place, gathered.count) for place, gathered in fold.open_windows()] == before
    assert fold.take(b"a", 7, {}) == []


def test_a_sum_past_the_range_of_floats_is_null_and_not_an_error():
    fold = WindowFold(Windowing(10, 10, 0, AGGREGATES))
    for x in (1e308, 1e308, 10**400):
        fold.take(b"k", 1, {"x": x})
    closing = fold.take(b"k", 10, {})
    assert closing[0].values["sum_x"] is None
    assert closing[0].values["mean_x"] is None
    assert closing[0].values["max_x"] == 10**400
