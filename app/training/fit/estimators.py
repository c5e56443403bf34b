"""From checked specifications to scikit-learn objects, and from objects back to words."""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.feature_selection import f_classif, f_regression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from app.training.catalog.entries import Entry, NormalisedSpec
from app.training.catalog.lookup import Catalog

Document = Mapping[str, Any]

SCALE_MATTERS_IN: Final = frozenset(
    {"sklearn.decomposition", "sklearn.kernel_approximation", "sklearn.random_projection"}
)
SCORED: Final = frozenset({"SelectKBest", "SelectPercentile"})
SCALERS: Final = frozenset(
    {
        *("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer"),
        *("PowerTransformer", "QuantileTransformer"),
    }
)


@dataclass(frozen=True)
class Built:
    """A specification as objects: what prepares columns, the steps on the matrix, the model."""

    preparations: Mapping[str, BaseEstimator]
    steps: tuple[tuple[str, BaseEstimator], ...]
    model: BaseEstimator
    family: str
    scales: bool
    max_rows: tuple[str, int] | None


class Builder:
    """Makes scikit-learn objects of what the catalogue let pass."""

    def __init__(self, catalog: Catalog, task: str, random_state: int) -> None:
        self._catalog = catalog
        self._task = task
        self._random_state = random_state

    def build(self, spec: NormalisedSpec) -> Built:
        """The parts of a pipeline for a specification that is not ``auto``."""
        *before, final = spec.steps
        entries = [self._catalog.get(step["name"]) for step in before]
        made = [self.estimator(step) for step in before]
        pairs = list(zip(entries, made, strict=True))
        limits = [entry for entry in map(self._catalog.get, spec.names) if entry.max_rows]
        tightest = min(limits, key=lambda entry: entry.max_rows or math.inf, default=None)
        return Built(
            preparations={e.prepares: made for e, made in pairs if e.prepares is not None},
            steps=_named([made for entry, made in pairs if entry.prepares is None]),
            model=self.estimator(final),
            family=self._family(entries, final),
            scales=any(entry.name in SCALERS for entry in entries),
            max_rows=(tightest.name, tightest.max_rows or 0) if tightest else None,
        )

    def estimator(self, document: Document) -> BaseEstimator:
        """One object, with everything nested in it."""
        if "steps" in document:
            return Pipeline(list(_named([self.estimator(step) for step in document["steps"]])))
        entry = self._catalog.get(document["name"])
        params = {**entry.fixed, **self._params(entry, document["params"])}
        if entry.is_search:
            return self._search(entry, document["params"])
        if entry.random_state:
            params["random_state"] = self._random_state
        made: BaseEstimator = _class_of(entry)(**params)
        return made

    def _params(self, entry: Entry, params: Document) -> dict[str, Any]:
        made = {key: self._value(entry, key, value) for key, value in params.items()}
        if "estimators" in made:
            made["estimators"] = list(_named(made["estimators"]))
        if entry.name in SCORED:
            made["score_func"] = f_classif if self._task == "classification" else f_regression
        return made

    def _value(self, entry: Entry, key: str, value: Any) -> Any:
        schema = str(entry.properties[key])
        if "x-spec" in schema and isinstance(value, dict):
            return self.estimator(value)
        if "x-spec" in schema and isinstance(value, list):
            return [self.estimator(item) for item in value]
        return tuple(value) if "x-ordered" in schema else value

    def _search(self, entry: Entry, params: Document) -> GridSearchCV:
        """Both searches as one over listed candidates, so that no distribution object is needed.

        A random search tries the defaults first, then random candidates.
        """
        searched = self.estimator(params["estimator"])
        grid: Any = params.get("param_grid")
        if grid is None:
            grid = self._drawn({**entry.defaults, **params})
        folds = params.get("cv") or 5
        return GridSearchCV(
            searched, grid, scoring=params.get("scoring"), cv=folds, error_score="raise"
        )

    def _drawn(self, params: Document) -> list[dict[str, list[Any]]]:
        random = np.random.default_rng(self._random_state)
        distributions = params["param_distributions"].items()
        searched = self._catalog.get(params["estimator"]["name"])
        ours = {**searched.defaults, **params["estimator"]["params"]}
        first = {name: [ours[name]] for name, _ in distributions if name in ours}
        drawn = [
            {name: [_draw(random, values)] for name, values in distributions}
            for _ in range(params["n_iter"] - 1)
        ]
        return [first, *drawn]

    def _family(self, before: Sequence[Entry], final: Document) -> str:
        """What the input should look like: trees need no scaling, a step before them may."""
        scaled = any(entry.module in SCALE_MATTERS_IN for entry in before)
        return "trees" if not scaled and self._is_tree(final) else "scaled"

    def _is_tree(self, document: Document) -> bool:
        if "steps" in document:
            return self._is_tree(document["steps"][-1])
        nested = [value for value in document["params"].values() if isinstance(value, dict)]
        listed = document["params"].get("estimators", [])
        inner = [*(item for item in nested if "name" in item or "steps" in item), *listed]
        if inner:
            return all(self._is_tree(item) for item in inner)
        # Without an estimator of their own, these three make trees.
        trees = ("Bagging", "AdaBoost")
        entry = self._catalog.get(document["name"])
        return entry.family == "trees" or entry.name.startswith(trees)


def resolved(estimator: Any) -> dict[str, Any]:
    """An estimator in words: its class and all its parameters, as JSON can express them."""
    params = estimator.get_params(deep=False)
    return {
        "name": type(estimator).__name__,
        "params": {
            key: _in_words(value)
            for key, value in sorted(params.items())
            if not (isinstance(value, str) and value == "deprecated")
        },
    }


def without_search(model: Any) -> tuple[Any, dict[str, Any] | None]:
    """A fitted search as its winner and an account of it; anything else as it is."""
    if not isinstance(model, GridSearchCV):
        return model, None
    results = model.cv_results_
    tried = [
        {"params": {k: _in_words(v) for k, v in params.items()}, "score": _in_words(float(score))}
        for params, score in zip(results["params"], results["mean_test_score"], strict=True)
    ]
    best = {key: _in_words(value) for key, value in model.best_params_.items()}
    return model.best_estimator_, {"best": best, "candidates": tried}


def _draw(random: np.random.Generator, values: Any) -> Any:
    if isinstance(values, list):
        return values[int(random.integers(len(values)))]
    low, high = values["low"], values["high"]
    whole = isinstance(low, int) and isinstance(high, int)
    if values.get("log"):
        drawn = math.exp(random.uniform(math.log(low), math.log(high)))
    else:
        drawn = float(random.uniform(low, high + whole))
    return min(int(drawn), high) if whole else drawn


def _named(estimators: Sequence[BaseEstimator]) -> tuple[tuple[str, BaseEstimator], ...]:
    """Names for members and steps: the class in lower case, numbered where it occurs again."""
    taken: dict[str, int] = {}
    named = []
    for estimator in estimators:
        name = type(estimator).__name__.lower()
        taken[name] = taken.get(name, 0) + 1
        named.append((name if taken[name] == 1 else f"{name}_{taken[name]}", estimator))
    return tuple(named)


def _class_of(entry: Entry) -> type:
    # The module's name comes from our own catalogue, by an exact key, never from a client.
    found: type = getattr(importlib.import_module(entry.module), entry.name)
    return found


def _in_words(value: Any) -> Any:
    if isinstance(value, BaseEstimator):
        return resolved(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _in_words(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_in_words(item) for item in value]
    return getattr(value, "__name__", type(value).__name__)
