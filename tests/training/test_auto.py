"""The model without a name: what is chosen, and that it is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.training.tables import PENGUINS, Run, penguins

ROWS = 400


def two_sided(rows: int = ROWS) -> pd.DataFrame:
    """A linear part and a part that only trees see."""
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, rows))
    score = 2 * a + 2 * np.sign(b * c) + random.normal(size=rows)
    return pd.DataFrame({"a": a, "b": b, "c": c, "y": score, "k": np.where(score > 0, "u", "v")})


TYPES = {"a": "number", "b": "number", "c": "number", "y": "number", "k": "string"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("auto"), two_sided(), TYPES)


def account(report: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = report["estimator"]["account"]
    return told


def test_the_blend_is_no_worse_than_its_members_where_it_was_chosen(run: Run) -> None:
    report = run.train(target="k", features=("a", "b", "c"))
    losses = account(report)["log_loss"]
    assert losses["blend"] <= min(losses["trees"], losses["linear"])
    assert account(report)["chosen"] == "blend"
    weights = account(report)["weights"]
    assert weights["trees"] + weights["linear"] == pytest.approx(1.0)
    resolved = report["estimator"]["resolved"]
    assert resolved["name"] == "VotingClassifier"
    assert resolved["params"]["weights"] == [weights["trees"], weights["linear"]]
    assert report["metrics"]["log_loss"] < report["baseline"]["log_loss"]
    # Reweighted classes would ruin the probabilities.
    assert "balanced" not in str(resolved)


def test_a_member_that_adds_nothing_is_left_out(run: Run) -> None:
    frame = two_sided()
    frame["k"] = np.where(frame["a"] + 0.3 * frame["b"] > 0, "u", "v")
    linear = Run(run.work, frame, TYPES).train(target="k", features=("a", "b"))
    assert account(linear)["chosen"] == "linear alone"
    assert linear["estimator"]["resolved"]["params"]["steps"][-1][1]["name"] == "LogisticRegression"


def test_trees_need_a_linear_member_on_small_tables_only(tmp_path: Path, run: Run) -> None:
    small = run.train(target="y", features=("a", "b", "c"))
    assert account(small)["chosen"] == "blend"
    assert account(small)["rmse"]["blend"] < account(small)["rmse"]["trees"]
    assert small["metrics"]["r2"] > 0.6
    large = Run(tmp_path, two_sided(2600), TYPES).train(target="y", features=("a", "b", "c"))
    model = large["estimator"]["resolved"]["params"]["steps"][-1][1]
    assert model["name"] == "HistGradientBoostingRegressor"
    assert model["params"]["learning_rate"] == 0.06
    assert model["params"]["max_leaf_nodes"] == 15
    assert model["params"]["early_stopping"] is True


def test_a_table_of_forty_rows_still_gets_a_model(tmp_path: Path) -> None:
    report = Run(tmp_path, two_sided(40), TYPES).train(target="y", features=("a", "b", "c"))
    assert report["metrics"]["rmse"] < report["baseline"]["rmse"]


def test_clusters_are_as_many_as_are_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    centres = np.repeat([[0, 0], [10, 0], [0, 10], [10, 10]], 40, axis=0)
    points = centres + random.normal(size=(160, 2))
    frame = pd.DataFrame(points, columns=["a", "b"])
    report = Run(tmp_path, frame, {"a": "number", "b": "number"}).train(task="clustering")
    assert account(report)["clusters"] == 4
    assert report["metrics"]["silhouette"] > 0.7
    assert report["signature"]["output"] == {"task": "clustering", "clusters": 4}


def test_outliers_are_few_and_components_keep_the_variance(tmp_path: Path) -> None:
    run = Run(tmp_path, penguins(), PENGUINS)
    outliers = run.train(task="outlier_detection")
    assert outliers["metrics"]["outlier_fraction"] < 0.2
    components = run.train(task="decomposition")
    assert components["metrics"]["explained_variance"] >= 0.95
    told = components["signature"]["output"]["components"]
    assert told == components["metrics"]["n_components"]
    assert outliers["baseline"] == components["baseline"] == {}


def dated() -> tuple[pd.DataFrame, dict[str, str]]:
    """What trees learn of the days does not come again; the linear part does."""
    random = np.random.default_rng(0)
    days = np.repeat(np.arange(60), 4)
    a = random.normal(size=len(days))
    mood = random.normal(size=days.max() + 1)[days]
    frame = pd.DataFrame(
        {
            "when": pd.Timestamp("2021-01-01") + pd.to_timedelta(days, unit="D"),
            "day_number": days * 10 + random.integers(0, 3, len(days)),
            "a": a,
            "k": np.where(a + 2 * mood + random.normal(size=len(days)) / 2 > 0, "u", "v"),
        }
    )
    types = {"when": "datetime", "day_number": "integer", "a": "number", "k": "string"}
    return frame, types


def test_a_table_with_dates_is_judged_and_blended_in_time(tmp_path: Path) -> None:
    """Random folds hold a row of each day, and so favour members that learn days by heart."""
    run = Run(tmp_path, *dated())
    in_time = run.train(target="k")
    assert in_time["validation"]["method"] == "time_split"
    assert "time_split_chosen" in {warning["code"] for warning in in_time["warnings"]}
    at_random = run.train(target="k", validation={"method": "holdout"})
    assert at_random["validation"]["method"] == "holdout"
    assert account(in_time)["weights"]["trees"] < account(at_random)["weights"]["trees"]
    assert account(in_time)["log_loss"]["trees"] > account(at_random)["log_loss"]["trees"]
