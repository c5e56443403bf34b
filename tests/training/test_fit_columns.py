"""What becomes of a column follows from its type and values, and is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.scoring.frame import Recipe, prepare
from app.training.fit.columns import Columns, as_frame, data_frame, decide_columns
from app.training.fit.serving import compile_saved, load_saved
from app.training.fit.table import Table, read_table
from tests.training.tables import Run, parquet_of

ROWS = 200
WORDS = [first + second for first in ("up", "la", "be") for second in "abcdefghijklmno"]


def stored(work: Path, types: dict[str, str], **columns: Any) -> Table:
    path = parquet_of(pd.DataFrame(columns), types, work / "table.parquet")
    return read_table(path, list(types), types, 1, 1 << 28)


def decided(work: Path, types: dict[str, str], named: bool = False, **columns: Any) -> Columns:
    table = stored(work, types, **columns)
    return decide_columns(table, list(types), named=named)


def reasons(columns: Columns) -> dict[str, str]:
    return {d.column: d.reason for d in columns.decisions if d.dropped}


def texts(rows: int = ROWS) -> list[str]:
    """Every other one is about other things."""
    random = np.random.default_rng(3)
    half = len(WORDS) // 2
    about = (WORDS[:half], WORDS[half:])
    return [" ".join(random.choice([*about[i % 2], *WORDS], 8)) for i in range(rows)]


def test_columns_without_information_are_dropped_with_the_reason(tmp_path: Path) -> None:
    columns = decided(
        tmp_path,
        {"one": "string", "none": "number", "id": "string", "row": "integer", "x": "number"},
        one=["same"] * ROWS,
        none=[np.nan] * ROWS,
        id=[f"u-{i:04}" for i in range(ROWS)],
        row=range(1, ROWS + 1),
        x=np.arange(ROWS) % 17,
    )
    assert columns.features == ["x"]
    assert reasons(columns) == {
        "one": "every row has the same value",
        "none": "every value is missing",
        "id": "100% of its values occur once: it names rows",
        "row": "it counts the rows",
    }


def test_a_column_that_the_client_named_stays_if_anything_can_be_learnt(tmp_path: Path) -> None:
    columns = decided(
        tmp_path,
        {"id": "string", "row": "integer", "one": "string"},
        named=True,
        id=[f"u-{i:04}" for i in range(ROWS)],
        row=range(ROWS),
        one=["same"] * ROWS,
    )
    assert columns.features == ["id", "row"]


def test_a_lone_row_number_is_better_than_nothing(tmp_path: Path) -> None:
    assert decided(tmp_path, {"day": "integer"}, day=range(ROWS)).features == ["day"]


def test_strings_are_levels_many_levels_or_text(tmp_path: Path) -> None:
    columns = decided(
        tmp_path,
        {"few": "string", "many": "string", "text": "string"},
        few=[f"f{i % 5}" for i in range(ROWS)],
        many=[f"m{i % 90}" for i in range(ROWS)],
        text=texts(),
    )
    kinds = {treatment.column.name: treatment.kind for treatment in columns.treatments}
    assert kinds == {"few": "levels", "many": "many_levels", "text": "text"}


def test_a_date_is_taken_apart_without_absolute_time(tmp_path: Path) -> None:
    when = pd.date_range("2021-01-01", periods=ROWS, freq="7h")
    columns = decided(tmp_path, {"when": "datetime"}, when=when)
    assert columns.recipe.names == ["when__weekday", "when__hour", "when__day"]


def test_parts_of_a_date_that_never_change_are_left_out(tmp_path: Path) -> None:
    days = pd.date_range("2021-01-01", periods=ROWS, freq="D")
    columns = decided(tmp_path, {"day": "datetime"}, day=days)
    assert columns.recipe.names == ["day__weekday", "day__day"]


def test_the_month_of_a_date_in_a_column_of_its_own_is_absolute_time_too(tmp_path: Path) -> None:
    when = pd.date_range("2021-01-01", periods=ROWS, freq="31h")
    columns = decided(
        tmp_path,
        {"when": "datetime", "month": "integer", "size": "integer"},
        when=when,
        month=when.month,
        size=np.arange(ROWS) % 12 + 1,
    )
    assert reasons(columns) == {"month": "it is the month of 'when', which only moves on"}


def test_a_part_of_a_date_never_takes_the_name_of_a_column(tmp_path: Path) -> None:
    columns = decided(
        tmp_path,
        {"when": "datetime", "when__hour": "number"},
        when=pd.date_range("2021-01-01", periods=ROWS, freq="7h"),
        when__hour=np.arange(ROWS) % 3,
    )
    assert sorted(set(columns.recipe.names)) == sorted(columns.recipe.names)


def test_the_frame_is_the_one_that_serving_makes_of_json(tmp_path: Path) -> None:
    types = {"n": "integer", "f": "boolean", "s": "string", "t": "datetime"}
    when = pd.date_range("2021-01-01", periods=4, freq="7h")
    table = stored(
        tmp_path,
        types,
        n=[1, 2, None, 4],
        f=[True, None, False, True],
        s=["a", None, "é", ""],
        t=when,
    )
    columns = decide_columns(table, list(types), named=True)
    rows = {
        "n": [1, 2, None, 4],
        "f": [True, None, False, True],
        "s": ["a", None, "é", ""],
        "t": [f"{moment.isoformat()}Z" for moment in when],
    }
    served = data_frame(prepare(columns.recipe, rows))
    pd.testing.assert_frame_equal(as_frame(columns, table), served)


@pytest.mark.parametrize(
    "estimator",
    [
        "auto",
        {"name": "LogisticRegression"},
        {"name": "RandomForestClassifier", "params": {"n_estimators": 10}},
        {"name": "HistGradientBoostingClassifier"},
        {"name": "MultinomialNB"},
        {"name": "KNeighborsClassifier"},
    ],
    ids=lambda estimator: estimator if isinstance(estimator, str) else estimator["name"],
)
def test_text_is_learnt_from_by_every_family(tmp_path: Path, estimator: Any) -> None:
    said = texts()
    label = ["yes" if i % 2 else "no" for i in range(ROWS)]
    frame = pd.DataFrame({"said": said, "label": label, "x": np.arange(ROWS) % 5})
    run = Run(tmp_path, frame, {"said": "string", "label": "string", "x": "integer"})
    report = run.train(estimator, target="label")
    assert report["metrics"]["roc_auc"] > 0.7
    served = {"said": ["", None, "É ñ 漢字 upa"], "x": [1, None, 3]}
    unseen = data_frame(prepare(Recipe.from_list(report["recipe"]), served))
    assert len(load_saved(run.work, report).predict(unseen)) == 3


@pytest.mark.parametrize("name", ["LogisticRegression", "HistGradientBoostingClassifier", "SVC"])
def test_unseen_and_missing_categories_are_legal_at_prediction(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    few, many = random.integers(0, 4, 300), random.integers(0, 60, 300)
    frame = pd.DataFrame(
        {
            "few": [f"f{i}" for i in few],
            "many": [f"m{i}" for i in many],
            "label": np.where(few + many % 2 > 2, "a", "b"),
        }
    )
    run = Run(tmp_path, frame, {"few": "string", "many": "string", "label": "string"})
    report = run.train({"name": name}, target="label")
    assert report["metrics"]["accuracy"] > 0.75
    unseen = {"few": ["f1", "new", None], "many": ["new", None, "m3"]}
    prepared = data_frame(prepare(Recipe.from_list(report["recipe"]), unseen))
    assert set(load_saved(run.work, report).predict(prepared)) <= {"a", "b"}


def test_a_column_that_is_empty_among_the_training_rows_does_no_harm(tmp_path: Path) -> None:
    # Known in the last rows in time only, which are held out.
    late = np.where(np.arange(ROWS) >= ROWS * 0.9, 1.5, np.nan)
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2021-01-01", periods=ROWS, freq="7h"),
            "late": late,
            "word": [None if np.isnan(value) else "w" for value in late],
            "x": np.random.default_rng(0).normal(size=ROWS),
        }
    )
    frame["y"] = frame["x"] * 2
    types = {"when": "datetime", "late": "number", "word": "string", "x": "number", "y": "number"}
    run = Run(tmp_path, frame, types)
    for name in ("Ridge", "HistGradientBoostingRegressor", "GradientBoostingRegressor", "SVR"):
        validation = {"method": "time_split", "column": "when"}
        report = run.train({"name": name}, target="y", validation=validation)
        assert report["metrics"]["r2"] > 0.5


def test_steps_take_the_place_of_what_would_be_done_anyway(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "x": np.where(np.arange(ROWS) % 9 == 0, np.nan, np.arange(ROWS) % 13),
            "c": [f"c{i % 6}" for i in range(ROWS)],
            "y": np.arange(ROWS) % 7 * 1.0,
        }
    )
    run = Run(tmp_path, frame, {"x": "number", "c": "string", "y": "number"})
    steps = [
        {"name": "SimpleImputer", "params": {"strategy": "mean"}},
        {"name": "OrdinalEncoder", "params": {}},
        {"name": "MinMaxScaler", "params": {}},
        {"name": "Ridge", "params": {}},
    ]
    report = run.train({"steps": steps}, target="y")
    resolved = report["estimator"]["resolved"]["params"]["steps"]
    assert [step[1]["name"] for step in resolved] == ["ColumnTransformer", "MinMaxScaler", "Ridge"]
    parts = {part[0]: part[1] for part in resolved[0][1]["params"]["transformers"]}
    assert parts["numbers"]["name"] == "SimpleImputer"
    assert parts["numbers"]["params"]["strategy"] == "mean"
    assert parts["levels"]["name"] == "OrdinalEncoder"
    assert compile_saved(run.work)["engine"] == "compiled"
