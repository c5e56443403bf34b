"""Clients' skops files become models of ours that answer as they did."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.base
from sklearn.cluster import DBSCAN
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from app.kernel.sandbox.parent import Limits, Sandbox
from app.scoring.estimator import answer
from app.scoring.frame import Recipe, prepare
from app.scoring.loader import minor_version
from tests.models.skops_files import (
    GOOD,
    LABELS,
    Importer,
    classifier,
    dumped,
    mixed_model,
    mixed_table,
    rewritten,
    rows_of,
)
from tests.scoring.fitted_catalogue import catalogue, fitted, frame, targets, task_of, variants

NOT_TAKEN = {"BisectingKMeans", "SplineTransformer", "SparseRandomProjection"}
SHOWN = {
    *("RandomForestClassifier", "HistGradientBoostingClassifier", "KNeighborsRegressor", "SVC"),
    *("IsolationForest", "KMeans", "PCA", "OneHotEncoder", "TfidfVectorizer", "GaussianMixture"),
    *("VotingClassifier", "MLPClassifier", "CalibratedClassifierCV", "GradientBoostingRegressor"),
}


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


def _answers_of(name: str, number: int, importer: Importer) -> None:
    model = fitted(next(variants(name)), name, number)
    report = importer.take(model)
    again, recipe = importer.loaded(), Recipe.from_list(report["recipe"])
    columns = {column: frame()[column].tolist() for column in recipe.sources}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = answer(again, prepare(recipe, columns), report["signature"]["output"])
        theirs = model.transform(frame()) if ours.components is not None else model.predict(frame())
    if ours.labels is not None:
        np.testing.assert_array_equal(np.asarray(ours.classes, dtype=object)[ours.labels], theirs)
    elif ours.outliers is not None:
        np.testing.assert_array_equal(ours.outliers, theirs < 0)
    else:
        ours_array = next(iter(ours.arrays().values()))
        dense = theirs.toarray() if hasattr(theirs, "toarray") else theirs
        np.testing.assert_allclose(ours_array, dense, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_model_of_the_catalogue_answers_as_it_did(importer: Importer, name: str) -> None:
    _answers_of(name, 0, importer)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(catalogue()) - NOT_TAKEN))
def test_every_other_model_of_the_catalogue_answers_as_it_did(
    importer: Importer, name: str
) -> None:
    for number in range(len(targets(task_of(name)))):
        _answers_of(name, number, importer)


@pytest.mark.parametrize("name", sorted(NOT_TAKEN))
def test_what_cannot_be_checked_is_named(importer: Importer, name: str) -> None:
    error = importer.refuse(fitted(next(variants(name)), name))
    assert error.errors[0].code in {"untrusted_type", "unknown_entry"}


def test_the_signature_is_read_off_the_model(importer: Importer) -> None:
    report = importer.take(mixed_model())
    assert report["task"] == "classification"
    assert report["signature"] == {
        "inputs": [
            {"name": "size", "type": "number", "nullable": False},
            {"name": "place", "type": "string", "nullable": True},
            {"name": "note", "type": "string", "nullable": True},
        ],
        "output": {"task": "classification", "classes": ["no", "yes"], "probabilities": True},
    }
    assert [column["kind"] for column in report["recipe"]] == ["number", "category", "text"]
    told = {warning["code"]: warning["detail"] for warning in report["warnings"]}
    assert "'id' is not used" in told["column_dropped"]
    assert "unseen category" in told["unseen_categories"]
    assert report["library_versions"]["scikit-learn"].startswith(minor_version())
    json.dumps(report, allow_nan=False)


def test_a_blend_of_pipelines_tells_its_columns_too(importer: Importer) -> None:
    members = [("one", mixed_model()), ("two", mixed_model())]
    blend = VotingClassifier(members, voting="soft").fit(mixed_table(), LABELS)
    kinds = {column["name"]: column["kind"] for column in importer.take(blend)["recipe"]}
    assert kinds == {"size": "number", "place": "category", "note": "text"}


def test_a_model_without_names_takes_those_of_the_client(importer: Importer) -> None:
    report = importer.take(classifier())
    assert [column["name"] for column in report["recipe"]] == ["x0", "x1", "x2"]
    inputs = [
        {"name": "height"},
        {"name": "legs", "type": "integer"},
        {"name": "wild", "type": "boolean", "nullable": False},
    ]
    report = importer.take(classifier(), inputs=inputs)
    assert [column["name"] for column in report["signature"]["inputs"]] == [
        "height",
        "legs",
        "wild",
    ]
    assert [column["type"] for column in report["signature"]["inputs"]] == [
        *("number", "integer", "boolean")
    ]
    table = pd.DataFrame(rows_of(), columns=["height", "legs", "wild"])
    assert importer.loaded().predict(table).tolist() == classifier().predict(rows_of()).tolist()


@pytest.mark.parametrize(
    ("inputs", "pointer"),
    [
        ([{"name": "size"}, {"name": "place"}], "/inputs"),
        ([{"name": "size"}, {"name": "place"}, {"name": "other"}], "/inputs"),
        ([{"name": "size"}, {"name": "size"}, {"name": "place"}, {"name": "note"}], "/inputs"),
        (
            [{"name": "note"}, {"name": "place", "type": "number"}, {"name": "size"}],
            "/inputs/1/type",
        ),
        (
            [{"name": "size", "type": "datetime"}, {"name": "place"}, {"name": "note"}],
            "/inputs/0/type",
        ),
        (
            [{"name": "size"}, {"name": "place"}, {"name": "note", "nullable": 1}],
            "/inputs/2/nullable",
        ),
        ([{"name": "size", "kind": 1}, {"name": "place"}, {"name": "note"}], "/inputs/0/kind"),
    ],
)
def test_a_clients_account_must_fit_the_model(
    importer: Importer, inputs: list[dict[str, Any]], pointer: str
) -> None:
    assert importer.refuse(mixed_model(), inputs=inputs).errors[0].pointer == pointer


def test_what_may_be_missing_is_found_by_trying(importer: Importer) -> None:
    boosted = HistGradientBoostingClassifier(max_iter=2).fit(rows_of(), LABELS)
    assert all(column["nullable"] for column in importer.take(boosted)["signature"]["inputs"])
    linear = importer.take(classifier())
    assert not any(column["nullable"] for column in linear["signature"]["inputs"])


def test_search_trees_are_built_anew(importer: Importer) -> None:
    model = classifier(KNeighborsClassifier(3, algorithm="kd_tree"))
    importer.take(model)
    again = importer.loaded()["model"]
    assert again._tree is not None
    table = pd.DataFrame(rows_of(), columns=["x0", "x1", "x2"])
    np.testing.assert_array_equal(importer.loaded().predict(table), model.predict(rows_of()))


def test_threads_of_the_client_are_not_ours(importer: Importer) -> None:
    importer.take(classifier(RandomForestClassifier(2, n_jobs=1000, verbose=9)))
    forest = importer.loaded()["model"]
    assert (forest.n_jobs, forest.verbose) == (None, 0)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ({"a": 1}, "no_model"),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), "no_columns"),
        (DBSCAN(), "untrusted_type"),
        (LogisticRegression(), "no_columns"),
        (LinearRegression().fit(rows_of(), rows_of()), "no_answer"),
        ([1, 2, 3], "no_model"),
    ],
)
def test_what_is_no_model_for_rows_is_refused(importer: Importer, model: Any, code: str) -> None:
    if isinstance(model, Pipeline):
        model.fit(mixed_table()["note"], LABELS)
    assert importer.refuse(model).errors[0].code == code


def test_another_minor_version_is_refused(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sklearn.base, "__version__", "1.5.2")
    data = dumped(classifier())
    monkeypatch.undo()
    error = importer.refuse(data)
    assert error.errors[0].code == "artifact_version_mismatch"
    assert "1.5.2" in error.detail


def test_another_patch_release_is_taken(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sklearn.base, "__version__", f"{minor_version()}.99")
    data = dumped(classifier())
    monkeypatch.undo()
    assert importer.take(data)["task"] == "classification"


@pytest.mark.slow
def test_it_runs_in_a_sandbox(tmp_path: Path) -> None:
    limits = Limits(wall_seconds=60, memory_bytes=1 << 30, cpu_seconds=60, file_bytes=1 << 30)
    good, evil = tmp_path / "good", tmp_path / "evil"
    outcomes = []
    with Sandbox(["app.models.skops.importing"]) as sandbox:
        for work, data in (
            (good, GOOD),
            (evil, rewritten(GOOD, lambda schema: schema.pop("protocol"))),
        ):
            work.mkdir()
            (work / "upload").write_bytes(data)
            arguments = {"source": str(work / "upload"), "inputs": None}
            outcomes.append(sandbox.run("app.models.skops.importing:run", arguments, work, limits))
    assert (outcomes[0].code, outcomes[0].result["task"]) == ("ok", "classification")
    assert (good / "model.joblib").exists()
    failure = outcomes[1].failure
    assert failure is not None
    assert failure.expected
    assert failure.errors[0]["code"] == "skops_protocol"
