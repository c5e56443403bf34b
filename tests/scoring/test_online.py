"""The incremental learner: what it learns, how it keeps it, and that equal folds are equal."""

import math
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression

from app.scoring.online import MOST_CLASSES, OnlineLearner, OnlineSpec

CLASSIFIER = OnlineSpec("classification", ("colour", "size", "flag"))
REGRESSOR = OnlineSpec("regression", ("colour", "size", "flag"))

_VALUES = st.one_of(
    st.none(), st.text(max_size=5), st.booleans(), st.integers(-(2**70), 2**70), st.floats(width=32)
)
_ROWS = st.fixed_dictionaries({"colour": _VALUES, "size": _VALUES, "flag": _VALUES})


def _stream(count, seed=0):
    chance = random.Random(seed)
    for _ in range(count):
        row = {
            "colour": chance.choice(["red", "green", "blue", None]),
            "size": chance.gauss(1000.0, 200.0),
            "flag": chance.random() < 0.5,
        }
        push = {"red": 2.0, "green": -2.0, "blue": 0.0, None: -1.0}[row["colour"]]
        yield row, push + (row["size"] - 1000.0) / 200.0, chance


def _labelled(count, seed=0):
    for row, push, chance in _stream(count, seed):
        yield row, chance.random() < 1 / (1 + math.exp(-push))


def test_two_classes_are_foretold_as_well_as_by_a_fit_on_everything():
    learner = OnlineLearner(CLASSIFIER)
    for row, label in _labelled(8000):
        learner.learn_one(row, label)
    seen, new = list(_labelled(8000)), list(_labelled(3000, seed=1))

    def matrix(rows):
        colours = ("red", "green", "blue", None)
        return [[row["colour"] == c for c in colours] + [row["size"] / 200] for row, _ in rows]

    fitted = LogisticRegression(max_iter=500).fit(matrix(seen), [label for _, label in seen])
    best = fitted.predict_proba(matrix(new))[:, 1]
    mine = np.array([learner.predict_one(row)["true"] for row, _ in new])
    truth = np.array([label for _, label in new])

    def log_loss(shares):
        return -np.mean(np.log(np.where(truth, shares, 1 - shares)))

    assert log_loss(mine) < log_loss(best) + 0.01


def test_many_classes_sum_to_one_and_the_right_one_wins():
    learner = OnlineLearner(OnlineSpec("classification", ("colour",)))
    for _ in range(300):
        for colour, label in [("red", "stop"), ("green", "go"), ("yellow", "wait"), (None, "ask")]:
            learner.learn_one({"colour": colour}, label)
    told = learner.predict_one({"colour": "yellow"})
    assert math.isclose(sum(told.values()), 1.0)
    assert max(told, key=told.get) == "wait"
    assert told["wait"] > 0.7
    missing = learner.predict_one({})
    assert max(missing, key=missing.get) == "ask"


def test_numbers_are_foretold_as_well_as_by_least_squares():
    spec = OnlineSpec("regression", ("a", "b"))
    learner, chance = OnlineLearner(spec), random.Random(3)

    def rows(count):
        for _ in range(count):
            a, b = chance.gauss(50_000, 9_000), chance.gauss(0, 0.001)
            yield {"a": a, "b": b}, 7.0 * a - 2e7 * b + 1e6 + chance.gauss(0, 5_000)

    seen = list(rows(6000))
    for row, target in seen:
        learner.learn_one(row, target)
    new = list(rows(500))
    fitted = LinearRegression().fit([[*row.values()] for row, _ in seen], [y for _, y in seen])
    best = fitted.predict([[*row.values()] for row, _ in new])
    truth = np.array([target for _, target in new])
    mine = np.array([learner.predict_one(row) for row, _ in new])
    assert np.sqrt(np.mean((mine - truth) ** 2)) < 1.25 * np.sqrt(np.mean((best - truth) ** 2))


def test_it_follows_a_stream_whose_meaning_turns_round():
    learner = OnlineLearner(OnlineSpec("classification", ("colour",)))
    for turned in (False, True):
        for _ in range(400):
            learner.learn_one({"colour": "red"}, not turned)
            learner.learn_one({"colour": "blue"}, turned)
    assert learner.predict_one({"colour": "blue"})["true"] > 0.8


def test_nothing_learnt_is_no_answer():
    assert OnlineLearner(CLASSIFIER).predict_one({"colour": "red"}) is None
    assert OnlineLearner(REGRESSOR).predict_one({"colour": "red"}) is None


def test_a_base_that_knows_everything_leaves_nothing_to_learn():
    learner = OnlineLearner(OnlineSpec("classification", ("colour",)))
    learner.expect(["false", "true"])
    base = {"false": 0.25, "true": 0.75}
    for _ in range(500):
        for label in ("true", "true", "true", "false"):
            learner.learn_one({"colour": "red"}, label, base)
    told = learner.predict_one({"colour": "red"}, base)
    assert told["true"] == pytest.approx(0.75, abs=0.03)
    biased = learner.predict_one({"colour": "red"}, {"false": 0.5, "true": 0.5})
    assert biased["true"] == pytest.approx(0.5, abs=0.05)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(_ROWS, st.sampled_from(["a", "b", True, 3, ""])), max_size=30),
    cut=st.integers(0, 30),
)
def test_a_state_restored_at_any_moment_goes_on_to_the_same_bytes(rows, cut):
    straight, resumed = OnlineLearner(CLASSIFIER), OnlineLearner(CLASSIFIER)
    for row, label in rows:
        straight.learn_one(row, label)
    for row, label in rows[:cut]:
        resumed.learn_one(row, label)
    resumed = OnlineLearner.restored(resumed.state())
    for row, label in rows[cut:]:
        resumed.learn_one(row, label)
    assert resumed.state() == straight.state()
    assert resumed.digest() == straight.digest()
    if rows:
        told = straight.predict_one(rows[0][0])
        assert told == resumed.predict_one(rows[0][0])
        assert math.isclose(sum(told.values()), 1.0)
        assert all(math.isfinite(share) for share in told.values())


def test_the_form_of_the_state_is_that_of_earlier_releases():
    learner = OnlineLearner(OnlineSpec("regression", ("colour", "size"), frozenset({"size"})))
    for at in range(50):
        learner.learn_one({"colour": ["red", "blé", None][at % 3], "size": at % 7}, at % 5)
    assert learner.digest() == ("491ffee1a2bd76ce05452953fe19ab3f460f93fcca3576815b6805ff3b88243e")


@pytest.mark.parametrize("value", [[1], {"a": 1}, 10**400, 1e200])
def test_a_value_that_is_no_value_is_refused_and_changes_nothing(value):
    learner = OnlineLearner(CLASSIFIER)
    learner.learn_one({"colour": "red", "size": 1}, "a")
    before = learner.digest()
    with pytest.raises(ValueError, match="flag"):
        learner.learn_one({"size": 3, "flag": value}, "b")
    assert learner.digest() == before


@pytest.mark.parametrize("target", [None, 1.5, [1], float("nan")])
def test_a_label_that_is_no_label_is_refused(target):
    with pytest.raises(ValueError, match="target"):
        OnlineLearner(CLASSIFIER).learn_one({}, target)


@pytest.mark.parametrize("target", [None, "1", True, float("inf"), 10**400])
def test_a_target_that_is_no_number_is_refused(target):
    with pytest.raises(ValueError, match="finite"):
        OnlineLearner(REGRESSOR).learn_one({}, target)


def test_the_classes_are_bounded():
    learner = OnlineLearner(CLASSIFIER)
    for label in range(MOST_CLASSES):
        learner.learn_one({}, label)
    with pytest.raises(ValueError, match="100"):
        learner.learn_one({}, "one more")
    learner.learn_one({}, 7)


def test_the_state_is_bounded_however_many_categories_come():
    learner = OnlineLearner(OnlineSpec("classification", ("id",), slot_bits=8))
    for at in range(5000):
        learner.learn_one({"id": f"id-{at}"}, at % 2)
    assert len(learner.state()) < 12 * 2**8 + 500


@pytest.mark.parametrize("size", [1e149, -1e149, 5e-324])
def test_numbers_of_any_size_leave_finite_answers(size):
    learner = OnlineLearner(REGRESSOR)
    for at in range(60):
        learner.learn_one({"size": size if at % 9 == 0 else at, "colour": "red"}, size * (at % 3))
    assert math.isfinite(learner.predict_one({"size": -size, "colour": "blue"}))


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match="Not the state"):
        OnlineLearner.restored(b"something else")


def test_learning_takes_microseconds():
    learner, rows = OnlineLearner(CLASSIFIER), list(_labelled(2000))
    begin = time.process_time()
    for row, label in rows:
        learner.predict_one(row)
        learner.learn_one(row, label)
    assert (time.process_time() - begin) / len(rows) < 200e-6
