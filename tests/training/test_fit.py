"""A training run from a table to a saved model and an honest report."""

import json
import math
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from app.scoring.frame import Recipe, prepare
from app.scoring.loader import load_sklearn
from app.training import child
from app.training.fit.columns import data_frame
from app.training.fit.serving import (
    compile_saved,
    export_saved,
    load_saved,
    read_report,
    read_sample,
)
from app.training.fit.spec import FitError
from app.training.fit.table import read_table
from app.training.fit.target import task_of
from tests.training.tables import PENGUINS, Run, penguins

SERVED_BY_SCIKIT_LEARN = {
    "name": "KNeighborsClassifier",
    "params": {"weights": "distance", "algorithm": "brute"},
}


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("birds"), penguins(), PENGUINS)


def table(work: Path, types: dict[str, str], rows: int = 60, **columns: Any) -> Run:
    """A table of a few columns beside ``x``, a number, and ``label``, a class that follows it."""
    random = np.random.default_rng(0)
    x = random.normal(size=rows)
    frame = pd.DataFrame({"x": x, "label": np.where(x > 0, "up", "down"), **columns})
    return Run(work, frame, {"x": "number", "label": "string", **types})


def warned(report: dict[str, Any]) -> dict[str, str]:
    return {warning["code"]: warning["detail"] for warning in report["warnings"]}


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_penguins_are_told_apart_without_naming_a_model(birds: Run) -> None:
    report = birds.train(target="species")
    assert report["task"] == "classification"
    assert report["metrics"]["accuracy"] > 0.95
    assert report["baseline"]["accuracy"] < 0.5
    assert report["warnings"] == []
    assert report["rows"] == {"table": 344, "used": 344, "fitted": 344}
    assert report["signature"]["output"] == {
        "task": "classification",
        "classes": ["Adelie", "Chinstrap", "Gentoo"],
        "probabilities": True,
    }
    nullable = {item["name"] for item in report["signature"]["inputs"] if item["nullable"]}
    assert nullable == {name for name in PENGUINS if penguins()[name].isna().any()}
    assert next(iter(report["feature_importances"])).startswith("bill")
    assert json.loads((birds.work / "report.json").read_text()) == report
    assert finite(report)


def test_the_saved_model_loads_and_answers_for_raw_rows(birds: Run) -> None:
    report = birds.train({"name": "RandomForestClassifier"}, target="species")
    model = load_saved(birds.work, report)
    raw = {
        name: penguins()[name].astype(object).where(penguins()[name].notna(), None)
        for name in PENGUINS
    }
    frame = data_frame(prepare(Recipe.from_list(report["recipe"]), raw))
    assert (model.predict(frame) == penguins()["species"]).mean() > 0.98
    assert model.predict_proba(frame).shape == (344, 3)


def test_progress_only_grows_and_the_model_is_safe_before_anything_is_compiled(birds: Run) -> None:
    birds.steps.clear()
    report = birds.train({"name": "Ridge"}, target="body_mass_g")
    fractions = [fraction for fraction, _, _ in birds.steps]
    assert fractions == sorted(fractions)
    assert report["serving"]["engine"] == "sklearn"
    assert load_sklearn((birds.work / "model.joblib").read_bytes(), expected_sklearn_minor="1.9")


@pytest.mark.parametrize(
    ("estimator", "wanted"),
    [
        ("auto", {"target": "sex"}),
        ("auto", {"target": "body_mass_g"}),
        ("auto", {"task": "clustering"}),
        ("auto", {"task": "outlier_detection"}),
        ("auto", {"task": "decomposition"}),
    ],
)
def test_the_compiled_form_says_what_the_saved_model_says(
    birds: Run, estimator: Any, wanted: Any
) -> None:
    birds.train(estimator, **wanted)
    serving = compile_saved(birds.work)
    assert serving["engine"] == "compiled", serving["reason"]
    assert serving["verified"]["label_flips"] == 0
    assert read_report(birds.work)["serving"] == serving
    assert (birds.work / "compiled.myc").exists()


def test_the_compiled_form_is_exported_and_nothing_else_is(birds: Run) -> None:
    birds.train({"name": "LogisticRegression"}, target="species")
    compile_saved(birds.work)
    exported = export_saved(birds.work)
    assert exported["offered"]
    assert exported["verified"]["label_flips"] == 0
    assert read_report(birds.work)["export"] == exported
    assert (birds.work / "model.onnx").exists()
    # Another run in the same folder must not offer what this one left.
    birds.train(SERVED_BY_SCIKIT_LEARN, target="species")
    compile_saved(birds.work)
    assert not export_saved(birds.work)["offered"]
    assert not (birds.work / "model.onnx").exists()


def test_the_processes_of_a_run_work_one_after_the_other(
    birds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(birds.work)
    told: list[dict[str, Any]] = []
    spec = birds.spec({"name": "LogisticRegression"}, target="species").as_dict()
    arguments = json.loads(json.dumps({"spec": spec, "parquet": str(birds.parquet)}))
    assert child.fit(arguments, told.append)["task"] == "classification"
    assert child.compile({}, told.append)["engine"] == "compiled"
    assert child.export({}, told.append)["offered"]
    fractions = [progress["fraction"] for progress in told]
    assert fractions == sorted(fractions)
    assert {"fraction", "step", "message"} == set(told[0])
    json.dumps(told, allow_nan=False)


def test_what_has_no_compiled_form_keeps_its_report_and_tells_why(birds: Run) -> None:
    report = birds.train(SERVED_BY_SCIKIT_LEARN, target="species")
    serving = compile_saved(birds.work)
    assert serving["engine"] == "sklearn"
    assert "KNeighborsClassifier" in serving["reason"]
    assert read_report(birds.work) == {**report, "serving": serving}


@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        ("auto", "sex"),
        ({"name": "RandomForestClassifier", "params": {"n_estimators": 20}}, "species"),
        ({"name": "MLPRegressor", "params": {"max_iter": 20}}, "body_mass_g"),
    ],
)
def test_the_same_run_again_gives_the_same_metrics_and_predictions(
    birds: Run, estimator: Any, target: str
) -> None:
    def once() -> tuple[Any, ...]:
        report = birds.train(estimator, target=target, random_state=7)
        model = load_saved(birds.work, report)
        recipe = Recipe.from_list(report["recipe"])
        answers = model.predict(data_frame(prepare(recipe, read_sample(birds.work))))
        return report["metrics"], report["feature_importances"], answers.tolist()

    assert once() == once()


def test_another_random_state_is_another_split(birds: Run) -> None:
    spec = {"name": "LogisticRegression"}
    first = birds.train(spec, target="sex", random_state=1)["metrics"]
    assert first != birds.train(spec, target="sex", random_state=2)["metrics"]


def test_rows_without_a_target_are_left_out_and_told(birds: Run) -> None:
    report = birds.train({"name": "LogisticRegression"}, target="sex")
    assert report["rows"]["used"] == 333
    assert warned(report)["rows_without_target"] == "11 of 344 rows have no 'sex'"


def test_the_signature_covers_rows_that_were_not_learnt_from(tmp_path: Path) -> None:
    size, kind = [1.0, 2.0, 4.0] * 20, ["a", "b"] * 30
    size[7], kind[7] = np.nan, None  # the only row without a size has no kind either
    run = table(tmp_path, {"size": "number", "kind": "string"}, size=size, kind=kind)
    report = run.train({"name": "GaussianNB"}, target="kind", features=("size", "x"))
    nullable = {item["name"]: item["nullable"] for item in report["signature"]["inputs"]}
    assert nullable == {"size": True, "x": False}


def test_a_model_that_learnt_nothing_is_told_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).permutation(np.repeat(["a", "b"], 40))
    run = table(tmp_path, {"coin": "string"}, rows=80, coin=noise)
    tree = {"name": "DecisionTreeClassifier"}
    report = run.train(tree, target="coin", features=("x",))
    assert "log_loss" in warned(report)["baseline_not_beaten"]
    assert report["metrics"]["log_loss"] > report["baseline"]["log_loss"]


def test_without_refit_the_model_of_the_split_is_kept(birds: Run) -> None:
    report = birds.train({"name": "Ridge"}, target="body_mass_g", refit=False)
    assert report["rows"]["fitted"] == report["validation"]["train_rows"] < 344


def test_metrics_of_folds_are_means_over_all_rows(birds: Run) -> None:
    validation = {"method": "cross_validation", "folds": 4}
    report = birds.train({"name": "Ridge"}, target="body_mass_g", validation=validation)
    assert report["validation"]["folds"] == 4
    assert report["metrics"]["r2"] > 0.6
    assert sum(step == "fit" for _, step, _ in birds.steps) >= 4


def test_a_classifier_without_probabilities_has_no_log_loss(birds: Run) -> None:
    report = birds.train({"name": "LinearSVC"}, target="sex")
    assert report["signature"]["output"]["probabilities"] is False
    assert report["metrics"]["log_loss"] is None
    assert report["metrics"]["roc_auc"] > 0.8
    assert "log_loss" in warned(report)["metric_undefined"]


@pytest.mark.parametrize(
    ("values", "type_", "task"),
    [
        ([0, 1] * 30, "integer", "classification"),
        (list(range(60)), "integer", "regression"),
        ([True, False] * 30, "boolean", "classification"),
        ([0.0, 1.0] * 30, "number", "regression"),
        (["a", "b", "c"] * 20, "string", "classification"),
    ],
)
def test_the_task_follows_from_the_target(
    tmp_path: Path, values: list[Any], type_: str, task: str
) -> None:
    run = table(tmp_path, {"y": type_}, y=values)
    stored = read_table(run.parquet, ["y"], run.types, 1, 1 << 28)
    assert task_of(run.spec(target="y"), stored) == task
    ridge = run.spec({"name": "DummyRegressor"}, target="x")
    assert task_of(ridge, stored) == "regression"


def test_classes_keep_the_type_of_the_target(tmp_path: Path) -> None:
    run = table(tmp_path, {"n": "integer", "b": "boolean"}, n=[3, 5] * 30, b=[True, False] * 30)
    told = {name: run.train({"name": "GaussianNB"}, target=name, features=("x",)) for name in "nb"}
    classes = [told[name]["signature"]["output"]["classes"] for name in "nb"]
    assert json.dumps(classes) == "[[3, 5], [false, true]]"


@pytest.mark.parametrize(
    ("columns", "types", "message"),
    [
        ({"y": ["a"] * 60}, "string", "same value in every row"),
        ({"y": [None] * 60}, "string", "Every value of the target"),
        ({"y": ["a"] * 59 + ["b"]}, "string", "'b' of the target 'y' has one row"),
        ({"y": [None] * 57 + ["a", "a", "b"]}, "string", "'b'"),
        ({"y": [None] * 56 + ["a", "b"] * 2}, "string", "4 rows to learn from are too few"),
    ],
)
def test_targets_that_teach_nothing_end_the_run_with_a_sentence(
    tmp_path: Path, columns: dict[str, Any], types: str, message: str
) -> None:
    run = table(tmp_path, {"y": types}, **columns)
    with pytest.raises(FitError, match=message) as refusal:
        run.train(target="y", features=("x",))
    assert refusal.value.code == "fit_error"
    assert refusal.value.expected


def test_fractions_are_no_classes(tmp_path: Path) -> None:
    run = table(tmp_path, {})
    with pytest.raises(FitError, match="fractions"):
        run.train({"name": "LogisticRegression"}, target="x")


def test_no_usable_feature_ends_the_run_with_the_reasons(tmp_path: Path) -> None:
    run = table(tmp_path, {"c": "integer", "e": "string"}, c=[7] * 60, e=[None] * 60)
    with pytest.raises(FitError, match="c: every row has the same value; e: every value is miss"):
        run.train(target="label", features=("c", "e"))


def test_what_scikit_learn_refuses_is_told_without_its_traceback(tmp_path: Path) -> None:
    run = table(tmp_path, {})
    with pytest.raises(FitError, match="n_neighbors") as refusal:
        run.train({"name": "KNeighborsClassifier", "params": {"n_neighbors": 500}}, target="label")
    assert "\n" not in str(refusal.value)
    assert "/" not in str(refusal.value)


def test_work_that_cannot_end_well_is_refused_before_it_begins(tmp_path: Path) -> None:
    names = {f"c{i}": "number" for i in range(60)}
    values = {name: np.random.default_rng(i).normal(size=60) for i, name in enumerate(names)}
    run = table(tmp_path, names, **values)
    steps = [{"name": "PolynomialFeatures", "params": {"degree": 5}}, {"name": "Ridge"}]
    with pytest.raises(FitError, match=r"would make [\d,]+ columns"):
        run.train({"steps": steps}, target="x")


@pytest.mark.parametrize(
    ("rows", "estimator", "message"),
    [
        (
            25_000,
            {"steps": [{"name": "OneHotEncoder"}, {"name": "GaussianNB"}]},
            "25,001 columns and 25,000 rows in memory",
        ),
        (5_001, {"name": "AffinityPropagation"}, "AffinityPropagation takes at most 5,000 rows"),
    ],
)
def test_tables_that_would_not_fit_into_memory_are_refused_at_once(
    tmp_path: Path, rows: int, estimator: Any, message: str
) -> None:
    names = [f"name {i}" for i in range(rows)]
    run = table(tmp_path, {"name": "string"}, rows, name=names)
    target = None if estimator.get("name") else "label"
    with pytest.raises(FitError, match=message):
        run.train(estimator, target=target, features=("name",))


def test_an_artifact_holds_nothing_but_scikit_learn(birds: Run) -> None:
    birds.train({"name": "GradientBoostingRegressor"}, target="body_mass_g")
    model = joblib.load(birds.work / "model.joblib")
    assert [name for name, _ in model.steps] == ["prepare", "model"]
    assert type(model).__module__.startswith("sklearn.")
