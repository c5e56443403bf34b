"""ADWIN: its window is what it says, it finds planted changes, and hardly ever finds others."""

import json
import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams.learning.drift import BETTER, WORSE, Adwin


def _coins(count, share, seed):
    chance = random.Random(seed)
    return [float(chance.random() < share) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=400))
def test_the_window_is_the_end_of_the_stream(values):
    window = Adwin()
    for value in values:
        window.add(value)
    kept = values[len(values) - window.count :]
    assert math.isclose(window.mean, statistics.fmean(kept) if kept else 0.0, abs_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=300), st.integers(0, 300))
def test_a_state_restored_at_any_moment_goes_on_alike(values, cut):
    straight, resumed = Adwin(), Adwin()
    told = [straight.add(value) for value in values]
    first = [resumed.add(value) for value in values[:cut]]
    resumed = Adwin.of(json.loads(json.dumps(resumed.as_dict())))
    assert first + [resumed.add(value) for value in values[cut:]] == told
    assert resumed.as_dict() == straight.as_dict()


@pytest.mark.parametrize(("before", "after", "way"), [(0.2, 0.5, WORSE), (0.5, 0.2, BETTER)])
def test_a_planted_change_is_found_soon_and_only_once_it_is_there(before, after, way):
    for seed in range(10):
        window = Adwin()
        assert not any(window.add(value) for value in _coins(3000, before, seed))
        told = [window.add(value) for value in _coins(1000, after, seed + 100)]
        found = [at for at, change in enumerate(told) if change]
        assert found[0] < 400
        assert told[found[0]] == way
        assert window.mean == pytest.approx(after, abs=0.06)


def test_a_slow_change_is_found_too():
    window, chance = Adwin(), random.Random(5)
    shares = [0.2] * 2000 + [0.2 + 0.4 * at / 3000 for at in range(3000)]
    told = [window.add(float(chance.random() < share)) for share in shares]
    assert not any(told[:2000])
    assert WORSE in told
    assert BETTER not in told


def test_streams_that_do_not_change_hardly_ever_raise_an_alarm():
    alarms = 0
    for seed in range(40):
        window = Adwin()
        alarms += any(window.add(value) for value in _coins(2000, 0.3, seed))
    assert alarms <= 2


def test_the_memory_grows_with_the_logarithm():
    window = Adwin()
    for value in _coins(20_000, 0.3, 1):
        window.add(value)
    assert window.count == 20_000
    assert sum(map(len, window.as_dict()["rows"])) < 6 * 15
