"""How good a fitted model is on rows that it hasn't seen, and how good a model that knows nothing.

A metric that isn't defined for these rows (no AUC where only one class occurs) is None, never NaN.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics as sk

Metrics = dict[str, float | int | None]
Array = NDArray[Any]

LOWER_IS_BETTER: Final = frozenset({"log_loss", "mae", "rmse"})
LEADING: Final[Mapping[str, Sequence[str]]] = {
    "classification": ("log_loss", "accuracy"),
    "regression": ("rmse",),
}
"""What decides whether the baseline is beaten: the first of these that both have."""
SILHOUETTE_ROWS: Final = 2000


def classification_metrics(model: Any, frame: pd.DataFrame, target: Array) -> Metrics:
    """Of a fitted classifier."""
    classes = model.classes_
    probabilities = model.predict_proba(frame) if hasattr(model, "predict_proba") else None
    scores = None
    if probabilities is None and len(classes) == 2 and hasattr(model, "decision_function"):
        scores = model.decision_function(frame)
    return _classification(classes, target, model.predict(frame), probabilities, scores)


def prior_metrics(train: Array, target: Array) -> Metrics:
    """Of the class prior: the most frequent class, and the shares of the classes."""
    classes, counts = np.unique(train, return_counts=True)
    probabilities = np.tile(counts / counts.sum(), (len(target), 1))
    labels = np.full(len(target), classes[counts.argmax()], dtype=target.dtype)
    return _classification(classes, target, labels, probabilities, None)


def regression_metrics(target: Array, predicted: Array) -> Metrics:
    """Of predictions."""
    r2 = sk.r2_score(target, predicted) if len(target) > 1 and np.ptp(target) > 0 else math.nan
    return _finite(
        r2=r2,
        mae=sk.mean_absolute_error(target, predicted),
        rmse=sk.root_mean_squared_error(target, predicted),
    )


def clustering_metrics(matrix: Any, labels: Array, random_state: int) -> Metrics:
    """How well the clusters are apart, on a sample, and how many there are."""
    found = len(np.unique(labels))
    random = np.random.default_rng(random_state)
    rows = len(labels)
    sample = np.sort(random.choice(rows, min(rows, SILHOUETTE_ROWS), replace=False))
    kinds = len(np.unique(labels[sample]))
    silhouette = math.nan
    if 1 < kinds < len(sample):
        silhouette = sk.silhouette_score(matrix[sample], labels[sample])
    return _finite(silhouette=silhouette, n_clusters=found)


def outlier_metrics(labels: Array) -> Metrics:
    """The share of rows that are told to be outliers."""
    return _finite(outlier_fraction=float(np.mean(labels == -1)))


def decomposition_metrics(model: Any, components: Array) -> Metrics:
    """How much of the variance is kept, where the model knows, and in how many components."""
    counted = {"n_components": components.shape[1]}
    ratios = getattr(model, "explained_variance_ratio_", None)
    return (
        _finite(**counted)
        if ratios is None
        else _finite(explained_variance=np.sum(ratios), **counted)
    )


def mean_of(folds: Sequence[Metrics]) -> Metrics:
    """The mean of each metric over the folds in which it is defined."""
    names = folds[0] if folds else {}
    means: Metrics = {}
    for name in names:
        known = [value for fold in folds if (value := fold[name]) is not None]
        means[name] = known[0] if len(known) == 1 else float(np.mean(known)) if known else None
    return means


def beaten(task: str, model: Metrics, baseline: Metrics) -> tuple[str, bool] | None:
    """The leading metric, and whether the model is better in it than the baseline."""
    for name in LEADING.get(task, ()):
        ours, theirs = model.get(name), baseline.get(name)
        if ours is not None and theirs is not None:
            return name, ours < theirs if name in LOWER_IS_BETTER else ours > theirs
    return None


def _classification(
    classes: Array,
    target: Array,
    labels: Array,
    probabilities: Array | None,
    scores: Array | None,
) -> Metrics:
    known = np.isin(target, classes)
    with warnings.catch_warnings():
        # Classes without a row among those held out are no news here: they were stratified if
        # that was possible.
        warnings.simplefilter("ignore")
        measured = {
            "accuracy": sk.accuracy_score(target, labels),
            "balanced_accuracy": sk.balanced_accuracy_score(target, labels),
            "f1_macro": sk.f1_score(target, labels, average="macro", zero_division=0.0),
            "roc_auc": math.nan,
            "log_loss": math.nan,
        }
        if probabilities is not None:
            measured["log_loss"] = _log_loss(classes, target, probabilities)
            measured["roc_auc"] = _auc(classes, target[known], probabilities[known])
        elif scores is not None and len(np.unique(target[known])) == 2:
            measured["roc_auc"] = sk.roc_auc_score(target[known] == classes[1], scores[known])
    return _finite(**measured)


def _log_loss(classes: Array, target: Array, probabilities: Array) -> float:
    """The mean log loss; a row of a class that the model doesn't know counts as certainly wrong."""
    places = np.minimum(np.searchsorted(classes, target), len(classes) - 1)
    given = probabilities[np.arange(len(target)), places]
    given = np.where(classes[places] == target, given, 0.0)
    smallest = np.finfo(np.float64).eps
    return float(-np.log(np.clip(given, smallest, 1.0)).mean())


def _auc(classes: Array, target: Array, probabilities: Array) -> float:
    """One class against the rest, the mean over all classes that occur beside others."""
    if len(classes) == 2:
        is_second = target == classes[1]
        defined = 0 < is_second.sum() < len(target)
        return float(sk.roc_auc_score(is_second, probabilities[:, 1])) if defined else math.nan
    areas = _each(
        lambda place: sk.roc_auc_score(target == classes[place], probabilities[:, place]),
        (p for p in range(len(classes)) if 0 < (target == classes[p]).sum() < len(target)),
    )
    return float(np.mean(areas)) if areas else math.nan


def _each(measure: Callable[[int], float], places: Iterable[int]) -> list[float]:
    return [float(measure(place)) for place in places]


def _finite(**measured: float) -> Metrics:
    return {
        name: (value if isinstance(value, int) else float(value)) if math.isfinite(value) else None
        for name, value in measured.items()
    }
