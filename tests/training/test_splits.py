"""Rows that judge a model are never among those it was fitted on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.fit.serving import load_saved
from app.training.fit.spec import FitError, Validation
from app.training.fit.splits import make_splits
from app.training.fit.table import Table
from tests.training.tables import Run

ROWS = 120


def dated(moments: list[Any]) -> Table:
    raw = np.array(moments, dtype="datetime64[us]")
    return Table({"when": raw}, {"when": "datetime"}, len(raw))


def of(rows: int) -> Table:
    return Table({"x": np.arange(rows)}, {"x": "integer"}, rows)


VALIDATIONS = st.builds(
    Validation,
    method=st.sampled_from(["holdout", "cross_validation"]),
    test_fraction=st.floats(0.05, 0.5),
    folds=st.integers(2, 4),
)


@given(st.lists(st.sampled_from("aabc"), min_size=12, max_size=60), VALIDATIONS)
def test_no_row_is_on_both_sides_and_none_is_lost(
    labels: list[str], validation: Validation
) -> None:
    splits = make_splits(validation, of(len(labels)), np.array(labels), 0)
    tested = np.concatenate([split.test for split in splits.splits])
    assert len(set(tested)) == len(tested)
    for split in splits.splits:
        assert len(split.test) > 0
        assert sorted([*split.train, *split.test]) == list(range(len(labels)))
    if validation.method == "cross_validation":
        assert len(tested) == len(labels)


def test_a_holdout_has_each_class_in_its_share() -> None:
    labels = np.array(["rare"] * 10 + ["often"] * 90)
    (split,) = make_splits(Validation(), of(100), labels, 0).splits
    assert (labels[split.test] == "rare").sum() == 2
    assert len(split.test) == 20


def test_classes_too_rare_to_be_held_out_are_noted() -> None:
    labels = np.array([f"c{i // 2}" for i in range(12)])
    assert make_splits(Validation(), of(12), labels, 0).notes
    folds = Validation(method="cross_validation", folds=3)
    splits = make_splits(folds, of(12), labels, 0)
    assert splits.account["stratified"] is False


def test_a_split_in_time_holds_out_the_last_rows() -> None:
    days = pd.date_range("2021-01-01", periods=100).to_numpy()
    order = np.random.default_rng(0).permutation(100)
    validation = Validation(method="time_split", column="when")
    splits = make_splits(validation, dated(list(days[order])), None, 0)
    (split,) = splits.splits
    assert days[order][split.train].max() < days[order][split.test].min()
    assert len(split.test) == 20
    assert splits.account["cut"] == "2021-03-22T00:00:00.000000Z"


def test_rows_of_one_moment_stay_together_and_undated_rows_are_only_learnt_from() -> None:
    moments = ["2021-01-01"] * 70 + ["2021-01-02"] * 25 + ["NaT"] * 5
    validation = Validation(method="time_split", column="when", test_fraction=0.1)
    splits = make_splits(validation, dated(moments), None, 0)
    (split,) = splits.splits
    assert split.test.tolist() == list(range(70, 95))
    assert splits.notes == ["5 rows without 'when' are used for training only"]


def test_one_moment_alone_cannot_be_split() -> None:
    with pytest.raises(FitError, match="different moments"):
        make_splits(
            Validation(method="time_split", column="when"), dated(["2021-01-01"] * 20), None, 0
        )


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(FitError, match="1 row "):
        make_splits(Validation(), of(1), None, 0)
    with pytest.raises(FitError, match="5 folds"):
        make_splits(Validation(method="cross_validation"), of(8), None, 0)


def test_nothing_that_is_learnt_sees_the_rows_held_out_in_time(tmp_path: Path) -> None:
    """The level of x, and categories, of the future must not reach the model that is judged."""
    late = np.arange(ROWS) >= ROWS * 0.8
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2021-01-01", periods=ROWS, freq="D"),
            "x": np.where(late, 1000.0, np.arange(ROWS) % 10),
            "c": [f"new{i % 3}" if is_late else f"old{i % 3}" for i, is_late in enumerate(late)],
            "y": np.arange(ROWS) % 10 * 1.0,
        }
    )
    types = {"when": "datetime", "x": "number", "c": "string", "y": "number"}
    run = Run(tmp_path, frame, types)
    report = run.train(
        {"name": "Ridge"},
        target="y",
        features=("x", "c"),
        validation={"method": "time_split", "column": "when"},
        refit=False,
    )
    parts = load_saved(run.work, report)["prepare"].named_transformers_
    assert parts["numbers"]["scale"].mean_[0] == pytest.approx(frame["x"][~late].mean())
    assert parts["levels"].categories_[0].tolist() == ["old0", "old1", "old2"]
    assert report["validation"]["test_rows"] == late.sum()
