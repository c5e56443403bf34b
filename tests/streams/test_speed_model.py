"""The speed layer of a model: judged before it learns, equal folds equal, better than its parts."""

from datetime import timedelta

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from app.scoring.online import OnlineSpec
from app.streams.learning.labelling import Half, Halves, Reading, Unreadable
from app.streams.learning.merges import MERGES, RESIDUAL
from app.streams.learning.speed_model import SpeedModel, SpeedSpec, answer
from tests.streams.flights import CATEGORIES, FEATURES, moments

FLIGHTS = OnlineSpec("classification", FEATURES, CATEGORIES)
EVERY = 6


def _matrix(rows):
    codes = {}
    return [
        [codes.setdefault(v, len(codes)) if isinstance(v, str) else v for v in row.values()]
        for row in rows
    ]


def _with_batches(stream, every=timedelta(days=28)):
    """Each moment with what a tree, fitted anew on all labels each four weeks, says of its row."""
    matrix = _matrix([moment.row for moment in stream if moment.row is not None])
    places = {m.flight: at for at, m in enumerate(m for m in stream if m.row is not None)}
    matrix, tree, following = np.array(matrix, float), None, stream[0].time + every
    labelled, labels, told = [], [], []
    for moment in stream:
        if moment.time >= following:
            tree = DecisionTreeClassifier(min_samples_leaf=100).fit(matrix[labelled], labels)
            shares = tree.predict_proba(matrix)[:, 1].tolist()
            following += every
        at = places[moment.flight]
        if moment.row is None:
            labelled.append(at)
            labels.append(moment.late)
        known = moment.row is not None and tree is not None
        told.append((moment, {"false": 1.0 - shares[at], "true": shares[at]} if known else None))
    return told


@pytest.fixture(scope="module")
def flights():
    """The stream, with the batch model's answers to its rows."""
    return _with_batches(moments(EVERY))


def _half(moment):
    return Half(str(moment.flight), moment.row, moment.late)


def _fold(flights, merge):
    layer = SpeedModel(SpeedSpec(FLIGHTS, merge))
    for moment, batch in flights:
        if batch is None and moment.row is not None:
            layer.seed(_half(moment))
        else:
            layer.take(_half(moment), batch)
    return layer


@pytest.mark.parametrize("merge", ["blend", pytest.param("hedge", marks=pytest.mark.slow)])
def test_flights_are_foretold_better_by_both_layers_than_by_either(flights, merge):
    layer = _fold(flights, merge)
    told = {name: found.metrics()["log_loss"] for name, found in layer.metrics.items()}
    assert layer.metrics["merged"].count > 20_000
    assert told["merged"] <= told["batch"] - 0.02
    assert told["merged"] <= min(told["batch"], told["speed"]) + 0.002
    assert layer.drifts > 0
    assert not layer.halves.dropped


@pytest.mark.parametrize("merge", MERGES)
def test_a_layer_stored_and_restored_in_between_ends_in_the_same_bytes(flights, merge):
    some = flights[12_000:15_000]
    straight = _fold(some, merge)
    resumed = SpeedModel.restored(_fold(some[:1000], merge).state())
    for moment, batch in some[1000:]:
        resumed.take(_half(moment), batch)
    assert resumed.digest() == straight.digest()
    row = {"carrier": "UA", "origin": "EWR"}
    batch = {"false": 0.4, "true": 0.6}
    assert answer([resumed], row, batch) == answer([straight], row, batch)


@pytest.mark.parametrize("merge", MERGES)
def test_with_nothing_learnt_since_the_cut_the_answer_is_the_batch_models(flights, merge):
    layer = SpeedModel(SpeedSpec(FLIGHTS, merge))
    for moment, _ in flights[:2000]:
        layer.seed(_half(moment))
    layer.take(Half("new", {"carrier": "UA"}, None), {"false": 0.3, "true": 0.7})
    batch = {"false": 1 / 3, "true": 2 / 3}
    assert layer.learner.learnt
    assert answer([layer, layer], {"carrier": "UA"}, batch) is batch


def test_a_layer_is_judged_by_what_it_said_when_the_row_came():
    layer = SpeedModel(SpeedSpec(OnlineSpec("classification", ("colour",))))
    for label in ("a", "b"):
        layer.seed(Half(None, {"colour": "red"}, label))
    before = layer.learner.predict_one({"colour": "red"})
    layer.take(Half("late", {"colour": "red"}, None), {"a": 0.5, "b": 0.5})
    for at in range(50):
        layer.take(Half(str(at), {"colour": "red"}, "b"), None)
    metrics = layer.metrics["speed"]
    loss = metrics.loss
    layer.take(Half("late", None, "b"))
    assert metrics.loss - loss == pytest.approx(-np.log(before["b"]))
    assert layer.metrics["batch"].count == 1


def test_a_correction_learns_what_the_batch_model_lacks():
    layer = SpeedModel(SpeedSpec(OnlineSpec("classification", ("colour",)), RESIDUAL))
    batch = {"false": 0.9, "true": 0.1}
    for _ in range(300):
        layer.take(Half(None, {"colour": "red"}, True), batch)
        layer.take(Half(None, {"colour": "blue"}, False), batch)
    assert answer([layer], {"colour": "red"}, batch)["true"] > 0.7
    assert answer([layer], {"colour": "blue"}, batch)["true"] < 0.2


@pytest.mark.parametrize("merge", MERGES)
def test_numbers_are_merged_too(merge):
    layer = SpeedModel(SpeedSpec(OnlineSpec("regression", ("size",)), merge))
    for at in range(900):
        layer.take(Half(None, {"size": at % 30}, 5.0 * (at % 30) + 100.0), 5.0 * (at % 30))
    told = answer([layer], {"size": 10}, 50.0)
    assert told == pytest.approx(100.0 if merge == "blend" else 150.0, abs=12)
    errors = {name: found.metrics()["mae"] for name, found in layer.metrics.items()}
    assert errors["merged"] < errors["batch"] == pytest.approx(100.0)


def test_partitions_answer_together_as_each_has_learnt():
    layers = [SpeedModel(SpeedSpec(OnlineSpec("classification", ("colour",)))) for _ in range(2)]
    for layer, count in zip(layers, (300, 10), strict=True):
        for at in range(count):
            layer.take(Half(None, {"colour": "red"}, at % 4 == 0))
    shares = [answer([layer], {"colour": "red"}, None)["true"] for layer in layers]
    together = answer(layers, {"colour": "red"}, None)["true"]
    assert abs(together - shares[0]) < abs(together - shares[1])


def test_a_drift_is_told_when_the_meaning_turns_round():
    layer = SpeedModel(SpeedSpec(OnlineSpec("classification", ("colour",))))
    batch = {"false": 0.1, "true": 0.9}
    told = [layer.take(Half(None, {"colour": "red"}, at < 1000), batch) for at in range(1200)]
    assert not any(told[:1000])
    assert "worse" in told[1000:1100]


def test_a_label_that_cannot_be_learnt_changes_nothing():
    layer = SpeedModel(SpeedSpec(OnlineSpec("regression", ("size",))))
    layer.take(Half("a", {"size": 1}, None))
    before = layer.digest()
    with pytest.raises(ValueError, match="finite"):
        layer.take(Half("a", None, "many"))
    assert layer.digest() == before


READING = Reading(("colour", "size"), "kind", "order")


def test_a_record_tells_a_row_a_label_or_both():
    row = {"colour": "red", "size": None}
    assert READING.of({"order": 7, "colour": "red", "other": []}) == Half("7", row, None)
    assert READING.of({"order": "x", "kind": "a"}) == Half("x", None, "a")
    assert READING.of({"colour": "red", "kind": "a"}) == Half(None, row, "a")
    by_record = Reading(("colour",), "kind")
    assert by_record.of({"kind": "a"}, "r1") == Half("r1", None, "a")


@pytest.mark.parametrize(
    "value",
    [
        [1],
        "text",
        None,
        {"order": 7},
        {"colour": "red"},
        {"kind": "a", "order": [7]},
        {"kind": "a", "order": True},
        {"order": 7, "colour": ["red"]},
        {"order": 7, "size": 10**400},
        {"order": 7, "size": float("inf")},
    ],
)
def test_a_record_that_tells_neither_is_unreadable(value):
    with pytest.raises(Unreadable):
        READING.of(value)


def test_a_label_that_comes_first_waits_for_its_row():
    halves = Halves(most=10)
    assert halves.join(Half("a", None, 3)) is None
    example = halves.join(Half("a", {"size": 1}, None), "noted")
    assert (example.row, example.target, example.kept) == ({"size": 1}, 3, None)
    assert not len(halves)


def test_halves_wait_up_to_their_bound_and_the_drop_is_counted():
    halves = Halves(most=3)
    for at in range(5):
        halves.join(Half(str(at), {"size": at}, None), at)
    assert (len(halves), halves.dropped) == (3, 2)
    assert halves.join(Half("4", None, "x")).kept == 4
    assert halves.join(Half("0", None, "x")) is None
