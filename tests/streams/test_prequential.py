"""Prequential metrics: as scikit-learn would have them, kept in a state, added up."""

import json
import math
import random

import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, roc_auc_score
from sklearn.metrics import root_mean_squared_error as rmse

from app.streams.learning.prequential import Prequential, drift_signal


def _judged(count, seed=0):
    chance = random.Random(seed)
    for _ in range(count):
        share = chance.random()
        yield {"no": 1 - share, "yes": share}, "yes" if chance.random() < share else "no"


def _metrics(pairs):
    found = Prequential("classification")
    for answer, label in pairs:
        found.add(answer, label)
    return found


def test_a_classifiers_metrics_are_those_of_scikit_learn():
    pairs = list(_judged(2000))
    told = _metrics(pairs).metrics()
    shares, truth = [answer["yes"] for answer, _ in pairs], [label == "yes" for _, label in pairs]
    assert told["count"] == 2000
    assert told["log_loss"] == pytest.approx(log_loss(truth, shares))
    assert told["accuracy"] == accuracy_score(truth, [share > 0.5 for share in shares])
    assert told["roc_auc"] == pytest.approx(roc_auc_score(truth, shares), abs=0.002)


def test_a_regressors_metrics_are_those_of_scikit_learn():
    chance, found = random.Random(1), Prequential("regression")
    pairs = [(chance.gauss(0, 1), chance.gauss(0, 1)) for _ in range(100)]
    for answer, target in pairs:
        found.add(answer, target)
    answers, targets = zip(*pairs, strict=True)
    told = found.metrics()
    assert told["mae"] == pytest.approx(mean_absolute_error(targets, answers))
    assert told["rmse"] == pytest.approx(rmse(targets, answers))


def test_nothing_judged_is_told_as_unknown():
    told = Prequential("classification").metrics()
    assert told == {"count": 0, "log_loss": None, "accuracy": None, "roc_auc": None}
    assert Prequential("regression").metrics() == {"count": 0, "mae": None, "rmse": None}


def test_partitions_add_up_to_the_whole():
    pairs = list(_judged(600))
    total = Prequential("classification")
    for part in (pairs[:100], [], pairs[100:]):
        total.include(_metrics(part))
    whole = _metrics(pairs).metrics()
    assert total.metrics() == {**whole, "log_loss": pytest.approx(whole["log_loss"])}


def test_a_third_label_leaves_no_auc():
    found = _metrics(_judged(10))
    found.add({"no": 0.2, "yes": 0.3, "maybe": 0.5}, "maybe")
    assert found.metrics()["roc_auc"] is None


def test_a_label_never_foretold_costs_much_and_not_everything():
    found = Prequential("classification")
    assert math.isfinite(found.add({"no": 1.0}, "yes"))
    assert 0 <= drift_signal(found.add({"no": 1.0}, "yes")) <= 1


def test_the_state_goes_through_json():
    found = _metrics(_judged(50))
    again = Prequential.of(json.loads(json.dumps(found.as_dict())))
    assert again.as_dict() == found.as_dict()
    assert again.metrics() == found.metrics()
