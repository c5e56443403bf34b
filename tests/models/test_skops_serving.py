"""Imported models are served compiled where they can be, verified without their training rows."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from app.models.skops import serving
from app.models.skops.signature import Column
from app.scoring.estimator import answer
from app.scoring.format import load
from app.scoring.frame import Recipe, prepare
from tests.models.skops_files import Importer, classifier, mixed_model
from tests.scoring.fitted_catalogue import catalogue, fitted, frame, variants

NOT_TAKEN = {"BisectingKMeans", "SplineTransformer", "SparseRandomProjection"}
QUICK = {
    *("RandomForestClassifier", "HistGradientBoostingClassifier", "LogisticRegression", "SVC"),
    *("IsolationForest", "KMeans", "PCA", "TfidfVectorizer", "GaussianMixture"),
    *("VotingClassifier", "MLPClassifier", "CalibratedClassifierCV", "GradientBoostingRegressor"),
}


def compiled(importer: Importer, model: object) -> tuple[dict, dict]:
    """The account of the import, and which engine serves it."""
    report = importer.take(model)
    arguments = {name: report[name] for name in ("model", "recipe", "signature")}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(importer.folder)
        return report, serving.run(arguments, lambda _: None)


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


def says_what_scikit_learn_says(importer: Importer, name: str) -> None:
    report, told = compiled(importer, fitted(next(variants(name)), name, 0))
    if told["engine"] == "sklearn":
        assert told["reason"]
        return
    assert told["verified"]["rows"] >= serving.MADE_UP_ROWS
    recipe = Recipe.from_list(report["recipe"])
    columns = {column: frame()[column].tolist() for column in recipe.sources}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = answer(importer.loaded(), prepare(recipe, columns), report["signature"]["output"])
    ours = load((importer.folder / serving.COMPILED).read_bytes()).score(columns)
    for kind, array in theirs.arrays().items():
        np.testing.assert_allclose(ours.arrays()[kind], array, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_model_of_the_catalogue_is_compiled_exactly(importer: Importer, name: str) -> None:
    says_what_scikit_learn_says(importer, name)
    assert (importer.folder / serving.COMPILED).exists()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(catalogue()) - NOT_TAKEN - QUICK))
def test_any_other_model_is_compiled_exactly_or_not_at_all(importer: Importer, name: str) -> None:
    says_what_scikit_learn_says(importer, name)


def test_a_model_of_mixed_columns_is_compiled(importer: Importer) -> None:
    assert compiled(importer, mixed_model())[1]["engine"] == "compiled"


def test_a_model_without_names_is_compiled(importer: Importer) -> None:
    assert compiled(importer, classifier())[1]["engine"] == "compiled"


def test_rows_are_made_up_as_the_columns_allow() -> None:
    columns = [Column("size"), Column("legs"), Column("wild"), Column("place", "category", ("a",))]
    kinds = ["number", "integer", "boolean", "string"]
    inputs = [
        {"name": column.name, "type": kind, "nullable": column.name == "place"}
        for column, kind in zip(columns, kinds, strict=True)
    ]
    rows = serving.made_up_rows(columns, inputs)
    assert {type(value) for value in rows["legs"]} == {int}
    assert set(rows["wild"]) == {True, False}
    assert set(rows["place"]) == {"a", "not seen before", None}
    assert None not in rows["size"]
    assert {len(values) for values in rows.values()} == {serving.MADE_UP_ROWS}
    assert rows == serving.made_up_rows(columns, inputs)
