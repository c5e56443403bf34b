"""Judges a run's model: fits on one part of the rows, measures on the other, beside a baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.training.fit import metrics as measure
from app.training.fit.metrics import Metrics
from app.training.fit.model import Fitted, Maker, fit, in_our_words
from app.training.fit.splits import Split, Splits

Array = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """The metrics, those of a model that knows nothing, and the model of the last split."""

    metrics: Metrics
    baseline: Metrics
    fitted: Fitted
    test: Array


def judge(
    maker: Maker,
    splits: Splits,
    frame: pd.DataFrame,
    target: Array | None,
    task: str,
    random_state: int,
    on_fold: Callable[[int, int], None],
) -> Judged:
    """Fit and measure on every split; the metrics are the means over the folds."""
    ours: list[Metrics] = []
    theirs: list[Metrics] = []
    fitted: Fitted | None = None
    for index, split in enumerate(splits.splits):
        on_fold(index, len(splits.splits))
        rows = frame.iloc[split.train]
        known = None if target is None else target[split.train]
        fitted = fit(*maker.make(rows, known), rows, known)
        model, held_out = fitted.model, frame.iloc[split.test]
        ours.append(in_our_words(_measured(model, held_out, target, split, task, random_state)))
        theirs.append(_baseline(target, split, task))
    if fitted is None:
        raise ValueError("there is nothing to judge by: no split")
    last = splits.splits[-1].test
    return Judged(measure.mean_of(ours), measure.mean_of(theirs), fitted, last)


def _measured(
    model: Any,
    frame: pd.DataFrame,
    target: Array | None,
    split: Split,
    task: str,
    random_state: int,
) -> Callable[[], Metrics]:
    if task == "classification" and target is not None:
        return lambda: measure.classification_metrics(model, frame, target[split.test])
    if task == "regression" and target is not None:
        return lambda: measure.regression_metrics(target[split.test], _flat(model.predict(frame)))
    if task == "clustering":
        return lambda: measure.clustering_metrics(
            model[:-1].transform(frame), model.predict(frame), random_state
        )
    if task == "outlier_detection":
        return lambda: measure.outlier_metrics(model.predict(frame))
    return lambda: measure.decomposition_metrics(model[-1], model.transform(frame))


def _baseline(target: Array | None, split: Split, task: str) -> Metrics:
    if target is None:
        return {}
    train, test = target[split.train], target[split.test]
    if task == "classification":
        return measure.prior_metrics(train, test)
    return measure.regression_metrics(test, np.full(len(test), train.mean()))


def _flat(predictions: Any) -> Array:
    return np.asarray(predictions, dtype=np.float64).reshape(-1)
