"""What an imported model takes and gives: derived from the model, refined by the client.

A model that was fitted on a DataFrame knows its columns' names; another one gets ``x0``, ``x1`` and
so on, or the names that the client gives. A column is a string where the model encodes strings or
reads words, and a number otherwise; the client may say that a number is whole or a boolean. What
the model drops is not asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.base import (
    BaseEstimator,
    is_classifier,
    is_clusterer,
    is_outlier_detector,
    is_regressor,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import Pipeline

from app.kernel.errors import Invalid
from app.models.skops.archive import refused

NUMBERS: Final = ("number", "integer", "boolean")
MAX_COLUMNS: Final = 5000
MAX_NAME: Final = 500
UNSEEN: Final = "not seen before"
_COMMITTEES: Final = (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor)


@dataclass(frozen=True)
class Column:
    """A column that the model uses: what it does with it, three values to try, and the strings
    that it knows."""

    name: str
    kind: str = "number"
    samples: tuple[Any, ...] = (0.0, 1.0, 2.5)
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The columns of a model in its order; ``dropped`` are names that it has no use for."""

    used: tuple[Column, ...]
    dropped: tuple[str, ...]
    named: bool


def read_columns(model: BaseEstimator) -> Columns:
    """The columns that a model was fitted on; raises Invalid if that can't be told."""
    count = getattr(model, "n_features_in_", None)
    if not isinstance(count, int | np.integer) or not 0 < count <= MAX_COLUMNS:
        raise refused(
            "no_columns",
            "The model does not take rows of columns. Put a text vectoriser into a "
            "ColumnTransformer before you export the model",
        )
    given = getattr(model, "feature_names_in_", None)
    names = [f"x{index}" for index in range(count)] if given is None else list(given)
    if len(names) != count or len(set(names)) != count or not all(map(_is_name, names)):
        raise refused("no_columns", "The names of the model's columns can't be used")
    columns, used = [Column(str(name)) for name in names], set[int]()
    for part, places in _parts(model, names):
        used.update(places)
        for place, column in _strings(part, places, columns):
            columns[place] = column
    if given is None:
        used = set(range(count))
    if not used:
        raise refused("no_columns", "The model has no use for any column")
    kept = tuple(column for place, column in enumerate(columns) if place in used)
    dropped = tuple(column.name for place, column in enumerate(columns) if place not in used)
    return Columns(kept, dropped, given is not None)


def _parts(model: Any, names: Sequence[str]) -> Iterator[tuple[Any, list[int]]]:
    """What of the model sees the client's columns themselves, and which of them."""
    first = model
    while isinstance(first, Pipeline) and first.steps:
        first = first.steps[0][1]
    if isinstance(first, ColumnTransformer):
        for _, part, chosen in first.transformers_:
            if not isinstance(part, str) or part != "drop":
                yield part, _places(chosen, names)
    elif isinstance(first, _COMMITTEES):
        for member in first.estimators_:
            yield from _parts(member, names)
    elif isinstance(first, CalibratedClassifierCV):
        for calibrated in first.calibrated_classifiers_:
            yield from _parts(calibrated.estimator, names)
    else:
        yield model, list(range(len(names)))


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


def _strings(
    part: Any, places: Sequence[int], columns: Sequence[Column]
) -> Iterator[tuple[int, Column]]:
    """The columns that a part of the model takes as strings."""
    for step in [step for _, step in part.steps] if isinstance(part, Pipeline) else [part]:
        if isinstance(step, CountVectorizer):
            for place in places:
                yield place, Column(columns[place].name, "text", ("some words", "", "others"))
            return
        for place, values in zip(places, getattr(step, "categories_", ()), strict=False):
            known = [str(value) for value in values if isinstance(value, str)]
            if known:
                samples = (known[0], known[-1], UNSEEN)
                yield place, Column(columns[place].name, "category", samples, tuple(known))
        filled = getattr(step, "statistics_", None)
        if isinstance(filled, np.ndarray) and filled.dtype.hasobject:
            for place in places:
                yield place, Column(columns[place].name, "category", ("a", "b", "c"))


def _places(columns: Any, names: Sequence[str]) -> list[int]:
    if isinstance(columns, str | int | np.integer):
        columns = [columns]
    if isinstance(columns, slice):
        return list(range(len(names)))[columns]
    listed = list(columns)
    if listed and all(isinstance(item, bool | np.bool_) for item in listed):
        return [index for index, chosen in enumerate(listed) if chosen]
    return [names.index(item) if isinstance(item, str) else int(item) for item in listed]


def task_of(model: BaseEstimator) -> str:
    """The task of a model; raises Invalid for one that can't answer new rows."""
    kinds = {
        "classification": (is_classifier, "predict"),
        "regression": (is_regressor, "predict"),
        "outlier_detection": (is_outlier_detector, "decision_function"),
        "clustering": (is_clusterer, "predict"),
    }
    for task, (is_kind, method) in kinds.items():
        if is_kind(model) and hasattr(model, method):
            return task
    if hasattr(model, "predict") and hasattr(model, "score_samples"):
        # Mixtures tell clusters, though scikit-learn calls them density estimators.
        return "clustering"
    if hasattr(model, "transform"):
        return "decomposition"
    raise refused("no_task", f"A {type(model).__name__} gives no answers about new rows")


def read_output(model: Any, task: str, sample: pd.DataFrame) -> dict[str, Any]:
    """The output part of the signature."""
    if task == "classification":
        labels = getattr(model, "classes_", None)
        if not isinstance(labels, np.ndarray) or labels.ndim != 1 or len(labels) < 2:
            raise refused("no_classes", "The model must tell one label of at least two classes")
        classes = [label.item() if isinstance(label, np.generic) else label for label in labels]
        if not all(type(label) in {str, int, float, bool} for label in classes):
            raise refused("no_classes", "The classes must be strings, numbers or booleans")
        if len({type(label) for label in classes}) > 1 or sorted(classes) != classes:
            raise refused("no_classes", "The classes must be sorted and of one type")
        shares = hasattr(model, "predict_proba")
        return {"task": task, "classes": classes, "probabilities": shares}
    if task == "clustering":
        last = model.steps[-1][1] if isinstance(model, Pipeline) else model
        centres = getattr(last, "cluster_centers_", getattr(last, "means_", None))
        return {"task": task, "clusters": None if centres is None else len(centres)}
    if task == "decomposition":
        return {"task": task, "components": int(model.transform(sample).shape[1])}
    return {"task": task}


def refined(columns: Columns, inputs: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The input part of the signature, in the model's order; all nullable until it is tried.

    Raises Invalid where the client's account doesn't fit the model.
    """
    derived = [
        {
            "name": column.name,
            "type": "number" if column.kind == "number" else "string",
            "nullable": True,
        }
        for column in columns.used
    ]
    if inputs is None:
        return derived
    told = [
        (place, item)
        for place, item in enumerate(inputs)
        if not columns.named or item.get("name") not in columns.dropped
    ]
    if columns.named:
        by_name = {item.get("name"): (place, item) for place, item in told}
        missing = [column["name"] for column in derived if column["name"] not in by_name]
        if missing:
            detail = f"The model's column {missing[0]!r} is missing"
            raise Invalid.at("/inputs", "missing", detail, missing[:50])
        unknown = {name for name in by_name if name not in {item["name"] for item in derived}}
        if unknown or len(by_name) < len(told):
            raise Invalid.at("/inputs", "unknown_column", "The model has not just these columns")
        told = [by_name[column["name"]] for column in derived]
    if len(told) != len(derived):
        detail = f"The model takes {len(derived)} columns, not {len(told)}"
        raise Invalid.at("/inputs", "wrong_length", detail)
    both = zip(derived, told, strict=True)
    result = [_one(column, item, f"/inputs/{place}") for column, (place, item) in both]
    if len({column["name"] for column in result}) < len(result):
        raise Invalid.at("/inputs", "duplicate", "Two columns have one name")
    return result


def _one(column: Mapping[str, Any], told: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    unknown = sorted(set(told) - {"name", "type", "nullable"})
    if unknown:
        raise Invalid.at(f"{pointer}/{unknown[0]}", "unknown_field", "It is not known here")
    name = told.get("name", column["name"])
    if not _is_name(name):
        raise Invalid.at(f"{pointer}/name", "invalid", "It is not a usable name")
    allowed = NUMBERS if column["type"] == "number" else ("string",)
    kind = told.get("type", column["type"])
    if kind not in allowed:
        detail = f"The model takes column {name!r} as {allowed[0]}"
        raise Invalid.at(f"{pointer}/type", "conflict", detail, list(allowed))
    nullable = told.get("nullable", True)
    if not isinstance(nullable, bool):
        raise Invalid.at(f"{pointer}/nullable", "type", "Say true or false")
    return {"name": name, "type": kind, "nullable": nullable}
