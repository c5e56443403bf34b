"""Every estimator that a client may name trains on a small table, with its defaults."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.training.catalog.entries import Entry
from app.training.catalog.lookup import Catalog
from tests.training.tables import Run

ROWS = 48
TYPES = {
    "length": "number",
    "colour": "string",
    "ripe": "boolean",
    "kind": "string",
    "mass": "number",
}
FEATURES = ["length", "colour", "ripe"]
TARGETS = {"classification": "kind", "regression": "mass"}
LOGISTIC, RIDGE = {"name": "LogisticRegression"}, {"name": "Ridge"}
PARAMS: dict[str, dict[str, Any]] = {
    "VotingClassifier": {"estimators": [LOGISTIC, {"name": "GaussianNB"}]},
    "StackingClassifier": {"estimators": [LOGISTIC, {"name": "GaussianNB"}]},
    "VotingRegressor": {"estimators": [RIDGE, {"name": "LinearRegression"}]},
    "StackingRegressor": {"estimators": [RIDGE, {"name": "LinearRegression"}]},
    "GridSearchCV": {"estimator": RIDGE, "param_grid": {"alpha": [0.1, 1.0]}},
    "RandomizedSearchCV": {
        "estimator": LOGISTIC,
        "param_distributions": {
            "C": {"low": 0.01, "high": 10.0, "log": True},
            "max_iter": {"low": 100, "high": 200},
            "fit_intercept": [True],
        },
        "n_iter": 3,
    },
    "SelectFromModel": {"estimator": LOGISTIC},
    "RFE": {"estimator": LOGISTIC},
}
ONLY = {"GridSearchCV": ("regression",), "RandomizedSearchCV": ("classification",)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    random = np.random.default_rng(0)
    length = random.normal(size=ROWS)
    frame = pd.DataFrame(
        {
            "length": np.where(np.arange(ROWS) % 7 == 0, np.nan, length),
            "colour": random.choice(["red", "green", "blue"], ROWS),
            "ripe": random.random(ROWS) < 0.5,
            "kind": np.where(length + random.normal(size=ROWS) / 3 > 0, "apple", "plum"),
            "mass": np.exp(length),
        }
    )
    return Run(tmp_path_factory.mktemp("run"), frame, TYPES)


def cases() -> list[Any]:
    def tasks_of(entry: Entry) -> tuple[str, ...]:
        tasks = entry.tasks if "final" in entry.roles else ("classification",)
        return ONLY.get(entry.name, tasks)

    return [
        pytest.param(entry, task, id=f"{entry.name}-{task}")
        for entry in Catalog.load().list()
        for task in tasks_of(entry)
    ]


@pytest.mark.parametrize(("entry", "task"), cases())
def test_it_trains_is_saved_and_tells_finite_metrics(run: Run, entry: Entry, task: str) -> None:
    spec: Any = {"name": entry.name, "params": PARAMS.get(entry.name, {})}
    if "final" not in entry.roles:
        spec = {"steps": [spec, LOGISTIC]}
    report = run.train(
        spec, target=TARGETS.get(task), task=task, features=tuple(FEATURES), refit=False
    )
    assert report["task"] == task
    known = [value for value in report["metrics"].values() if value is not None]
    assert known
    assert all(math.isfinite(value) for value in known)
    assert [item["name"] for item in report["signature"]["inputs"]] == FEATURES
    assert (run.work / "model.joblib").stat().st_size > 0


def test_a_search_leaves_its_winner_and_an_account(run: Run) -> None:
    spec = {"name": "RandomizedSearchCV", "params": PARAMS["RandomizedSearchCV"]}
    report = run.train(spec, target="kind", features=("length",))
    model = report["estimator"]["resolved"]["params"]["steps"][-1][1]
    assert model["name"] == "LogisticRegression"
    search = report["estimator"]["account"]["search"]
    assert len(search["candidates"]) == 3
    # The defaults are the first candidate.
    assert search["candidates"][0]["params"] == {"C": 1.0, "fit_intercept": True, "max_iter": 1000}
    assert model["params"]["C"] == search["best"]["C"]
