"""A training run done over again in plain scikit-learn, by what the documentation promises.

Nothing of the server is imported: see docs/explanation/preparation.md for the rules.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils import all_estimators, get_tags

from tests.acceptance.parity_tables import Table

RANDOM_STATE = 42
MOST_LEVELS, RARE, RARE_FROM_ROWS = 40, 10, 500
CLASSES = dict(all_estimators())
OURS: Mapping[str, dict[str, Any]] = {
    "LogisticRegression": {"max_iter": 1000},
    "HuberRegressor": {"max_iter": 1000},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.01},
    "VotingClassifier": {"voting": "soft"},
}
SCALERS = {"StandardScaler", "MinMaxScaler", "PowerTransformer", "QuantileTransformer"}
PROJECTIONS = {"PCA", "Nystroem"}
Document = Mapping[str, Any]


def estimator(document: Document) -> BaseEstimator:
    """What a request names, with the random state wherever there is one."""
    if "steps" in document:
        return make_pipeline(*map(estimator, document["steps"]))
    made = CLASSES[document["name"]]
    params = {**OURS.get(document["name"], {}), **document.get("params", {})}
    params = {key: _nested(value) for key, value in params.items()}
    if "estimators" in params:
        params["estimators"] = [(f"member{n}", one) for n, one in enumerate(params["estimators"])]
    if "random_state" in inspect.signature(made).parameters:
        params["random_state"] = RANDOM_STATE
    return made(**params)


def _nested(value: Any) -> Any:
    if isinstance(value, dict) and ("name" in value or "steps" in value):
        return estimator(value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [estimator(item) for item in value]
    return value


def frame(table: Table, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Numbers as float64; categories as objects, NaN where missing; no column of one value."""
    made = {}
    for name in table.features:
        values = [row[name] for row in rows]
        if is_category(table, name):
            made[name] = pd.Series([np.nan if v is None else v for v in values], dtype=object)
        elif len(set(table.columns[name])) > 1:
            made[name] = pd.Series(values, dtype=np.float64)
    return pd.DataFrame(made)


def is_category(table: Table, name: str) -> bool:
    """Whether the column holds strings."""
    return any(isinstance(value, str) for value in table.columns[name])


def needs_no_scale(document: Document) -> bool:
    """Trees, and ensembles of nothing but trees."""
    if "steps" in document:
        return needs_no_scale(document["steps"][-1])
    members = document.get("params", {}).get("estimators", [])
    member = document.get("params", {}).get("estimator")
    if members or member:
        return all(map(needs_no_scale, members or [member]))
    return any(word in document["name"] for word in ("Tree", "Forest", "Boost", "Bagging"))


def pipeline(table: Table, document: Document) -> Pipeline:
    """The documented preparation, the steps, the model; not fitted."""
    named = document.get("steps", [document])
    steps = [estimator(step) for step in named]
    names = {step["name"] for step in named}
    tags = [get_tags(step).input_tags for step in steps]
    trees = needs_no_scale(named[-1]) and not names & PROJECTIONS
    gaps = all(tag.allow_nan for tag in tags)
    positive = any(tag.positive_only for tag in tags)
    sparse = all(tag.sparse for tag in tags)
    scaler: list[BaseEstimator] = [] if trees or names & SCALERS else [StandardScaler()]
    if positive:
        scaler = [MinMaxScaler(clip=True)]
    parts = _parts(table, scaler=scaler, trees=trees, gaps=gaps, sparse=sparse)
    prepare = ColumnTransformer(parts, sparse_threshold=0.3 if sparse else 0.0)
    return make_pipeline(prepare, *steps)


def _parts(
    table: Table, *, scaler: list[BaseEstimator], trees: bool, gaps: bool, sparse: bool
) -> list[tuple[str, Any, list[str]]]:
    known = frame(table, table.rows)
    categories = {n: known[n].nunique() for n in known if is_category(table, n)}
    numbers = [name for name in known if name not in categories]
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    missing = np.nan if gaps else -1
    few: BaseEstimator = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=RARE if len(known) >= RARE_FROM_ROWS else None,
        sparse_output=sparse,
    )
    if trees:
        codes = OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=missing,
            encoded_missing_value=missing,
        )
        few = make_pipeline(codes, *map(clone, scaler))
    kind = "continuous" if table.is_regression else "auto"
    many = make_pipeline(TargetEncoder(target_type=kind), *map(clone, scaler))
    parts = [
        ("numbers", "passthrough" if trees and gaps else make_pipeline(impute, *scaler), numbers),
        ("few", few, [name for name, levels in categories.items() if levels <= MOST_LEVELS]),
        ("many", many, [name for name, levels in categories.items() if levels > MOST_LEVELS]),
    ]
    return [part for part in parts if part[2]]


def trained(table: Table, document: Document) -> tuple[Pipeline, dict[str, float | None]]:
    """The pipeline fitted on all rows, and the metrics of one fitted without the held-out fifth."""
    # The target encoder takes no random state, it shuffles by the global one.
    np.random.seed(RANDOM_STATE)
    known = frame(table, table.rows)
    target = np.array(table.columns[table.target], dtype=object).tolist()
    target = np.array(target, dtype=object if isinstance(target[0], str) else None)
    train, test = train_test_split(
        np.arange(len(known)),
        test_size=round(0.2 * len(known)),
        random_state=RANDOM_STATE,
        stratify=None if table.is_regression else target,
    )
    train, test = np.sort(train), np.sort(test)
    judged = pipeline(table, document).fit(known.iloc[train], target[train])
    measure = _of_quantities if table.is_regression else _of_classes
    measured = measure(judged, known.iloc[test], target[test])
    return pipeline(table, document).fit(known, target), measured


def _of_quantities(model: Pipeline, rows: pd.DataFrame, target: Any) -> dict[str, float | None]:
    told = model.predict(rows)
    return {
        "r2": metrics.r2_score(target, told),
        "mae": metrics.mean_absolute_error(target, told),
        "rmse": metrics.root_mean_squared_error(target, told),
    }


def _of_classes(model: Pipeline, rows: pd.DataFrame, target: Any) -> dict[str, float | None]:
    told = model.predict(rows)
    measured = {
        "accuracy": metrics.accuracy_score(target, told),
        "balanced_accuracy": metrics.balanced_accuracy_score(target, told),
        "f1_macro": metrics.f1_score(target, told, average="macro"),
    }
    if not hasattr(model, "predict_proba"):
        return measured
    shares = model.predict_proba(rows)
    measured["log_loss"] = metrics.log_loss(target, shares, labels=model.classes_)
    scores = shares[:, 1] if len(model.classes_) == 2 else shares
    measured["roc_auc"] = metrics.roc_auc_score(target, scores, multi_class="ovr")
    return measured
