"""Rows on which two implementations of one model part first, if they part at all."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.acceptance.parity_tables import Table
from tests.acceptance.plain_sklearn import frame, is_category, needs_no_scale

Row = dict[str, Any]
MOST_THRESHOLDS = 60


def odd_rows(table: Table, document: Any, fitted: Any) -> list[Row]:
    """Rows on the thresholds of the trees, with gaps, and with categories never seen."""
    return [*_on_thresholds(table, document, fitted), *_gaps(table), *_strangers(table)]


def _gaps(table: Table) -> Iterator[Row]:
    """One column missing, then all that may be."""
    row = table.rows[0]
    nullable = [name for name in table.features if None in table.columns[name]]
    yield from ({**row, name: None} for name in nullable)
    yield {**row, **dict.fromkeys(nullable)}


def _strangers(table: Table) -> Iterator[Row]:
    for name in table.features:
        if is_category(table, name):
            for index, stranger in enumerate(("unseen", "", "Ñandú 東京", "nan", "None")):
                yield {**table.rows[index], name: stranger}
        else:
            known = [value for value in table.columns[name] if value is not None]
            yield {**table.rows[1], name: 10 * max(known) + 1.0}
            yield {**table.rows[2], name: -10 * max(known) - 1.0}


def _on_thresholds(table: Table, document: Any, fitted: Any) -> Iterator[Row]:
    """A real row moved onto a threshold, and to the next number on each side of it."""
    steps = document.get("steps", [document])
    if len(steps) > 1 or not needs_no_scale(steps[0]):
        return
    rows = table.rows
    # Numbers come first in the matrix, and are neither scaled nor mixed.
    columns = list(frame(table, rows[:1]))
    numbers = [name for name in columns if not is_category(table, name)]
    draw = random.Random(0)
    found = sorted({(f, t) for f, t in thresholds(fitted[-1]) if f < len(numbers)})
    for feature, threshold in draw.sample(found, min(MOST_THRESHOLDS, len(found))):
        name = numbers[feature]
        near = [threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)]
        if all(value is None or value.is_integer() for value in table.columns[name]):
            near = [np.floor(threshold), np.ceil(threshold)]
        yield from ({**draw.choice(rows), name: float(value)} for value in near)


def thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """Every finite split of a fitted tree or ensemble of trees: feature and threshold."""
    if hasattr(model, "tree_"):
        inner = model.tree_.children_left >= 0
        found = zip(model.tree_.feature[inner], model.tree_.threshold[inner], strict=True)
    elif hasattr(model, "best_estimator_"):
        found = thresholds(model.best_estimator_)
    elif hasattr(model, "_predictors"):
        grown = [tree.nodes for stage in model._predictors for tree in stage]
        inner = [nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)] for nodes in grown]
        found = (
            pair
            for nodes in inner
            for pair in zip(nodes["feature_idx"], nodes["num_threshold"], strict=True)
        )
    else:
        found = (pair for one in np.ravel(model.estimators_) for pair in thresholds(one))
    return ((int(f), float(t)) for f, t in found if np.isfinite(t))
