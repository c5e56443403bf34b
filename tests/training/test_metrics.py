"""Metrics are scikit-learn's where they are defined, and None where they are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from app.training.fit.metrics import (
    beaten,
    classification_metrics,
    clustering_metrics,
    mean_of,
    prior_metrics,
    regression_metrics,
)

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 3))
THREE = np.array(["a", "b", "c"], dtype=object)[(X[:, 0] > 0) * 1 + (X[:, 1] > 0) * 1]


def test_log_loss_and_auc_are_those_of_scikit_learn() -> None:
    model = LogisticRegression().fit(X[:60], THREE[:60])
    told = classification_metrics(model, X[60:], THREE[60:])
    shares = model.predict_proba(X[60:])
    assert told["log_loss"] == pytest.approx(log_loss(THREE[60:], shares))
    assert told["roc_auc"] == pytest.approx(roc_auc_score(THREE[60:], shares, multi_class="ovr"))


def test_the_prior_is_what_a_dummy_would_say() -> None:
    dummy = DummyClassifier(strategy="prior").fit(X[:60], THREE[:60])
    assert prior_metrics(THREE[:60], THREE[60:]) == classification_metrics(
        dummy, X[60:], THREE[60:]
    )


def test_a_class_that_the_model_never_saw_counts_as_wrong() -> None:
    model = LogisticRegression().fit(X[:60], np.where(X[:60, 0] > 0, "b", "d"))
    told = classification_metrics(model, X[60:62], np.array(["a", "z"]))
    assert told["accuracy"] == 0.0
    assert told["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps))
    assert told["roc_auc"] is None


def test_what_is_not_defined_is_none() -> None:
    assert regression_metrics(np.array([1.0]), np.array([2.0]))["r2"] is None
    assert regression_metrics(np.array([1.0, 1.0]), np.array([2.0, 1.0]))["r2"] is None
    assert clustering_metrics(X, np.zeros(90), 0) == {"silhouette": None, "n_clusters": 1}


def test_the_mean_over_folds_leaves_out_what_is_not_defined() -> None:
    folds = [{"r2": 1.0, "mae": None}, {"r2": None, "mae": None}, {"r2": 0.5, "mae": None}]
    assert mean_of(folds) == {"r2": 0.75, "mae": None}


def test_the_leading_metric_decides_whether_the_baseline_is_beaten() -> None:
    good = {"accuracy": 0.5, "log_loss": 0.4}
    assert beaten("classification", good, {"accuracy": 0.9, "log_loss": 0.5}) == ("log_loss", True)
    labels_only = {"accuracy": 0.5, "log_loss": None}
    assert beaten("classification", labels_only, {"accuracy": 0.9, "log_loss": 0.5}) == (
        "accuracy",
        False,
    )
    assert beaten("clustering", {"silhouette": 0.1}, {}) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.data())
def test_regression_metrics_are_finite_or_none(target: list[float], data: st.DataObject) -> None:
    guesses = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=len(target), max_size=len(target)))
    told = regression_metrics(np.array(target), np.array(guesses))
    assert all(value is None or np.isfinite(value) for value in told.values())
    assert (told["mae"] or 0.0) <= (told["rmse"] or 0.0) * (1 + 1e-9) + 1e-9
