"""How much a model needs each column: what its error grows by when the column is shuffled."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.training.fit.columns import Columns

ROWS: Final = 500
REPEATS: Final = 2
MOST_ROWS: Final = 60_000
"""Predicted at once; tables with more columns than fit get no importances."""
SLOW: Final = frozenset(
    {
        *("KNeighborsClassifier", "KNeighborsRegressor", "SVC", "SVR", "OneClassSVM"),
        *("LocalOutlierFactor", "StackingClassifier", "StackingRegressor"),
    }
)
"""Models that take their time for a row; the importances aren't worth the wait."""


def feature_importances(
    model: Any, columns: Columns, frame: pd.DataFrame, target: NDArray[Any], random_state: int
) -> Mapping[str, float] | None:
    """By raw column, greatest first; None where it would take too long.

    In units of log loss (of error rate, for classifiers without probabilities) or mean absolute
    error, on up to 500 rows; about zero, or below, for a column that the model could do without.
    """
    features = columns.features
    random = np.random.default_rng(random_state)
    rows = np.sort(random.choice(len(frame), min(ROWS, len(frame)), replace=False))
    if len(rows) * REPEATS * len(features) > MOST_ROWS or len(rows) < 2:
        return None
    known, answers = frame.iloc[rows].reset_index(drop=True), target[rows]
    shuffled = []
    for feature in features:
        prepared = [t.column.name for t in columns.treatments if t.column.source == feature]
        for _ in range(REPEATS):
            order = random.permutation(len(rows))
            changed = {name: known[name].take(order).set_axis(known.index) for name in prepared}
            shuffled.append(known.assign(**changed))
    errors = _errors(model, pd.concat([known, *shuffled], ignore_index=True), answers)
    base, grown = errors[0], errors[1:].reshape(len(features), REPEATS).mean(axis=1)
    growth = {feature: float(grown[i] - base) for i, feature in enumerate(features)}
    return dict(sorted(growth.items(), key=lambda item: -item[1]))


def _errors(model: Any, frame: pd.DataFrame, target: NDArray[Any]) -> NDArray[np.float64]:
    """The mean error of each block of as many rows as the target has."""
    copies = len(frame) // len(target)
    expected = np.tile(target, copies)
    if hasattr(model, "predict_proba"):
        places = np.minimum(np.searchsorted(model.classes_, expected), len(model.classes_) - 1)
        given = model.predict_proba(frame)[np.arange(len(frame)), places]
        given = np.where(model.classes_[places] == expected, given, 0.0)
        each = -np.log(np.clip(given, np.finfo(np.float64).eps, 1.0))
    elif hasattr(model, "classes_"):
        each = (model.predict(frame) != expected).astype(np.float64)
    else:
        each = np.abs(model.predict(frame) - expected)
    means: NDArray[np.float64] = each.reshape(copies, len(target)).mean(axis=1)
    return means
