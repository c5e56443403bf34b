"""Every estimator that a client may name, fitted on tiny data, in each of its ways.

``python -m tests.scoring.fitted_catalogue`` prints the globals that their joblib files name: what
``app/scoring/loader_allowed.py`` has to allow. Review by hand what is new before adding it.
"""

import importlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

import joblib
import numpy as np
import pandas as pd
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

ROWS = 60
NUMBERS = ["a", "b", "c"]
FIRST = {
    "classification": "DecisionTreeClassifier",
    "regression": "DecisionTreeRegressor",
}


@cache
def frame() -> pd.DataFrame:
    """Positive numbers (some missing), a category and a text."""
    random = np.random.default_rng(0)
    table: dict[str, Any] = {name: random.gamma(2.0, size=ROWS) for name in NUMBERS}
    table["d"] = np.where(random.random(ROWS) < 0.1, np.nan, random.random(ROWS))
    table["place"] = np.array(["north", "south", "west", "é"], dtype=object)[
        random.integers(0, 4, ROWS)
    ]
    table["note"] = np.array(["a small note", "another one", "words of it"], dtype=object)[
        random.integers(0, 3, ROWS)
    ]
    return pd.DataFrame(
        {name: pd.Series(values, dtype=values.dtype) for name, values in table.items()}
    )


def targets(task: str) -> list[np.ndarray[Any, Any] | None]:
    """Words and booleans, positive numbers, or nothing."""
    values = frame()["a"].to_numpy() + frame()["b"].to_numpy()
    if task == "classification":
        words = np.array(["low", "middle", "high"], dtype=object)
        return [words[np.digitize(values, [3, 5])], values > 4]
    return [values] if task == "regression" else [None]


@cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """The catalogue's entries by name."""
    document = json.loads(
        files("app.training.catalog").joinpath("catalogue.json").read_text("utf-8")
    )
    return {entry["name"]: entry for entry in document["estimators"]}


def variants(name: str) -> Iterator[BaseEstimator]:
    """Unfitted estimators: as it is, and with each option that may be chosen."""
    entry = catalogue()[name]
    cls = getattr(importlib.import_module(entry["module"]), name)
    required = {
        key: _made(key, schema, entry)
        for key, schema in entry["parameters"]["properties"].items()
        if key in entry["parameters"].get("required", ()) or key == "score_func"
    }
    small = {"n_estimators": 2, "max_iter": 3, "n_components": 2, "n_quantiles": 10, "cv": 2}
    small |= {"n_init": 1}
    known = entry["parameters"]["properties"]
    small = {key: value for key, value in small.items() if key in known}
    ours = {key: known[key]["default"] for key in entry.get("our_defaults", ())}
    plain = {**entry.get("fixed", {}), **ours, **small, **required}
    if entry["random_state"]:
        plain |= {"random_state": 0}
    if name == "OrdinalEncoder":
        plain |= {"unknown_value": np.nan, "encoded_missing_value": np.nan}
    yield cls(**plain)
    for key, schema in known.items():
        if key not in required:
            for choice in _choices(schema):
                yield cls(**{**plain, key: choice})


def _choices(schema: Mapping[str, Any]) -> Iterator[Any]:
    default = schema.get("default")
    for part in schema.get("anyOf", [schema]):
        yield from (option for option in part.get("enum", []) if option != default)
        if part.get("type") == "boolean":
            yield not default
        if part.get("x-spec"):
            yield _inner(part)


def _inner(part: Mapping[str, Any], index: int = 0) -> BaseEstimator:
    task = part["x-spec"][0]
    name = [FIRST[task], *part.get("x-names", ()), "GaussianNB", "Ridge"][index]
    return next(iter(variants(name)))


def _made(key: str, schema: Mapping[str, Any], entry: Mapping[str, Any]) -> Any:
    if key == "score_func":
        regression = "regression" in entry["tasks"]
        module = importlib.import_module("sklearn.feature_selection")
        return module.f_regression if regression else module.f_classif
    if "x-spec" in schema:
        return _inner(schema)
    if "x-spec" in schema.get("items", {}):
        return [("first", _inner(schema["items"])), ("second", _inner(schema["items"]))]
    if "x-grid" in schema:
        return {"max_depth": [2, 3]}
    raise ValueError(f"nothing known for {entry['name']}.{key}")


def fitted(estimator: BaseEstimator, name: str, number: int = 0) -> BaseEstimator:
    """The estimator in a pipeline as training builds them, fitted to the n-th target."""
    entry = catalogue()[name]
    prepares = entry.get("prepares")
    columns: Any = {"categories": ["place"], "text": "note"}.get(prepares, NUMBERS)
    if prepares == "numbers":
        columns = [*NUMBERS, "d"]
    if prepares:
        prepared = [("given", estimator, columns), ("rest", "passthrough", ["a"])]
        steps = [("prepare", ColumnTransformer(prepared, sparse_threshold=0.0))]
    else:
        rest = [("numbers", "passthrough", NUMBERS), ("dropped", "drop", ["place"])]
        steps = [("prepare", ColumnTransformer(rest)), ("model", estimator)]
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        model = Pipeline(steps).fit(frame(), targets(task_of(name))[number])
    if any("x-grid" in schema for schema in entry["parameters"]["properties"].values()):
        # Training keeps what a search has found, not the search.
        model.steps[-1] = ("model", model["model"].best_estimator_)
    return model


def task_of(name: str) -> str:
    """The first task of an estimator; transformers are fitted as for classification."""
    return str((catalogue()[name]["tasks"] or ["classification"])[0])


def all_fitted() -> Iterator[BaseEstimator]:
    """Fitted pipelines of everything; a combination that scikit-learn refuses is left out."""
    for name in catalogue():
        for estimator in variants(name):
            for number in range(len(targets(task_of(name)))):
                with suppress(ValueError, TypeError, NotImplementedError):
                    yield fitted(estimator, name, number)
    yield from beyond_the_options()


def beyond_the_options() -> Iterator[BaseEstimator]:
    """What depends on a number or on the target, so that no option tells of it."""
    models = {
        "classification": [KNeighborsClassifier(p=3)],
        "regression": [KNeighborsRegressor(p=3), SelectKBest(f_regression, k=1)],
    }
    for task, estimators in models.items():
        for target in targets(task):
            for model in estimators:
                yield Pipeline([("model", clone(model))]).fit(frame()[NUMBERS], target)
    # An imported model may name these types as a parameter.
    yield OneHotEncoder(dtype=np.float32).fit(frame()[["place"]])
    yield OneHotEncoder(dtype=np.int32).fit(frame()[["place"]])


def dumped(estimator: Any, compress: int = 0) -> bytes:
    """The bytes of its joblib file."""
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer, compress=compress)
    return buffer.getvalue()


class _Recorder(NumpyUnpickler):
    def __init__(self, data: bytes, seen: set[tuple[str, str]]) -> None:
        super().__init__("", io.BytesIO(data), ensure_native_byte_order=True)
        self._seen = seen

    def find_class(self, module: str, name: str) -> Any:
        self._seen.add((module, name))
        return super().find_class(module, name)


def globals_named(data: bytes) -> set[tuple[str, str]]:
    """Every (module, name) that loading a joblib file looks up."""
    seen: set[tuple[str, str]] = set()
    _Recorder(data, seen).load()
    return seen


def all_globals() -> dict[str, list[str]]:
    """What the joblib files of everything name, by module."""
    found: set[tuple[str, str]] = set()
    for estimator in all_fitted():
        found |= globals_named(dumped(estimator))
    modules = sorted({module for module, _ in found})
    return {module: sorted(name for at, name in found if at == module) for module in modules}


if __name__ == "__main__":
    for module, names in all_globals().items():
        told = ", ".join(f'"{name}"' for name in names)
        print(f'    "{module}": frozenset({{{told}}}),')  # noqa: T201
