"""A request is checked against the columns before anything is fitted."""

import json
from typing import Any

import pytest

from app.kernel.errors import Invalid
from app.training.catalog.lookup import Catalog
from app.training.fit.spec import ColumnInfo, FitSpec, Validation

TYPES = {"s": "string", "n": "number", "i": "integer", "b": "boolean", "t": "datetime"}
COLUMNS = tuple(ColumnInfo(name, kind) for name, kind in TYPES.items())


def spec(estimator: Any = "auto", **wanted: Any) -> FitSpec:
    checked = Catalog.load().validate_spec(estimator)
    return FitSpec.checked(columns=COLUMNS, estimator=checked, **wanted)


def refused(*args: Any, **wanted: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as refusal:
        spec(*args, **wanted)
    return {error.pointer: error.code for error in refusal.value.errors}


def test_features_default_to_the_other_columns() -> None:
    assert spec(target="s").wanted_features == ("n", "i", "b", "t")
    assert spec(task="clustering").wanted_features == tuple(TYPES)


def test_the_task_is_known_where_the_request_decides_it() -> None:
    assert spec(target="s").known_task is None
    assert spec({"name": "Ridge"}, target="n").known_task == "regression"
    assert spec({"name": "LogisticRegression"}, target="i").known_task == "classification"
    assert spec({"name": "KMeans"}).known_task == "clustering"
    assert spec("auto", task="decomposition").known_task == "decomposition"


def test_it_survives_json() -> None:
    wanted = spec(
        {"name": "Ridge", "params": {"alpha": 0.5}},
        target="n",
        features=("i", "b"),
        validation=Validation("time_split", 0.3, column="t"),
        random_state=7,
    )
    document = json.loads(json.dumps(wanted.as_dict()))
    assert FitSpec.from_dict(document, Catalog.load()) == wanted


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"/target": "missing"}),
        ({"target": "x"}, {"/target": "unknown_column"}),
        ({"target": "t"}, {"/target": "type"}),
        ({"target": "s", "task": "regression"}, {"/target": "type"}),
        ({"target": "s", "task": "guessing"}, {"/task": "not_an_option"}),
        ({"target": "s", "task": "clustering"}, {"/target": "conflict"}),
        ({"target": "s", "features": ("s",)}, {"/features/0": "conflict"}),
        ({"target": "s", "features": ("n", "n")}, {"/features/1": "duplicate"}),
        ({"target": "s", "features": ("n", "?")}, {"/features/1": "unknown_column"}),
        ({"target": "s", "features": ()}, {"/features": "missing"}),
        ({"target": "s", "random_state": -1}, {"/random_state": "out_of_range"}),
        ({"target": "s", "random_state": 2**40}, {"/random_state": "out_of_range"}),
        ({"target": "s", "random_state": True}, {"/random_state": "out_of_range"}),
    ],
)
def test_contradictions_are_told_with_their_place(
    wanted: dict[str, Any], expected: dict[str, str]
) -> None:
    assert refused(**wanted) == expected


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        (Validation("guess"), {"/validation/method": "not_an_option"}),
        (Validation(test_fraction=0.9), {"/validation/test_fraction": "out_of_range"}),
        (Validation("cross_validation", folds=1), {"/validation/folds": "out_of_range"}),
        (Validation("time_split", column="n"), {"/validation/column": "unknown_column"}),
        (Validation("time_split"), {"/validation/column": "unknown_column"}),
    ],
)
def test_a_validation_that_cannot_be_done_is_refused(
    validation: Validation, expected: dict[str, str]
) -> None:
    assert refused(target="s", validation=validation) == expected


def test_an_estimator_for_another_task_is_refused() -> None:
    assert refused({"name": "Ridge"}, target="n", task="classification") == {
        "/estimator": "conflict"
    }
    assert refused({"name": "Ridge"}, target="s") == {"/target": "type"}
    assert refused({"name": "KMeans"}, target="s") == {"/target": "conflict"}


def test_folds_leave_no_single_model_to_keep() -> None:
    folds = Validation("cross_validation")
    assert refused(target="s", validation=folds, refit=False) == {"/refit": "conflict"}
