"""What a model says of some rows as columns of a table, beside which the rows may stand.

``prediction`` and, of a classifier, ``probability_<class>``; ``prediction`` (regression);
``cluster``; ``outlier`` and ``outlier_score``; ``component_<n>``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from app.scoring.frame import as_text
from app.scoring.scores import Array, Scores

_NAMES: Final = {
    "values": "prediction",
    "clusters": "cluster",
    "outliers": "outlier",
    "unusual": "outlier_score",
}
_OF_PARTS: Final = {
    "label": "prediction",
    "probabilities": "probability_",
    "value": "prediction",
    "cluster": "cluster",
    "outlier": "outlier",
    "score": "outlier_score",
    "components": "component_",
}


def output_columns(scores: Scores) -> dict[str, Array]:
    """The columns by name: of numbers, booleans or, as objects, texts."""
    if scores.labels is not None:
        columns = {"prediction": _plain(scores.classes)[scores.labels]}
        if scores.probabilities is not None:
            for place, name in enumerate(scores.classes):
                columns[f"probability_{as_text(name)}"] = scores.probabilities[:, place]
        return columns
    if scores.components is not None:
        width = scores.components.shape[1]
        return {f"component_{place + 1}": scores.components[:, place] for place in range(width)}
    return {_NAMES[name]: array for name, array in scores.arrays().items()}


def _plain(classes: Sequence[Any]) -> Array:
    """The classes as numbers or booleans if they all are, else as objects."""
    array = np.array(list(classes))
    return array if array.dtype.kind in "bif" else np.array(list(classes), dtype=object)


def only_parts(columns: Mapping[str, Array], parts: Sequence[str] | None) -> dict[str, Array]:
    """Those of the columns that belong to some parts of an output; all of them without parts."""
    if parts is None:
        return dict(columns)
    wanted = {_OF_PARTS[part] for part in parts}
    return {name: column for name, column in columns.items() if _part_of(name) in wanted}


def _part_of(name: str) -> str:
    return next((part for part in ("probability_", "component_") if name.startswith(part)), name)


def scores_of(rows: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> Scores:
    """The scores that were told as JSON objects; ``output`` is that of the signature."""
    task = output["task"]
    if task == "classification":
        classes = output["classes"]
        places = {name: place for place, name in enumerate(classes)}
        labels = np.array([places[row["label"]] for row in rows], dtype=np.int64)
        if not output.get("probabilities"):
            return Scores(task, classes, labels=labels)
        names = [as_text(name) for name in classes]
        shares = [[row["probabilities"][name] for name in names] for row in rows]
        return Scores(task, classes, labels=labels, probabilities=np.array(shares))
    if task == "outlier_detection":
        outliers = np.array([row["outlier"] for row in rows], dtype=bool)
        return Scores(task, outliers=outliers, unusual=np.array([row["score"] for row in rows]))
    told, name = _TOLD_AS[task]
    array: Any = np.array([row[told] for row in rows])
    return Scores(task, **{name: array})


_TOLD_AS: Final = {
    "regression": ("value", "values"),
    "clustering": ("cluster", "clusters"),
    "decomposition": ("components", "components"),
}
