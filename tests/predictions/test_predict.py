"""Unstored predictions: by either engine what scikit-learn says, strict about their rows."""

from pathlib import Path

import numpy as np
import pytest

from app.kernel.errors import Unavailable
from tests.predictions.predicting import ROW
from tests.problems import assert_problem

pytestmark = pytest.mark.usefixtures("either_way")

ROWS = [ROW, {"mass": None, "island": "Dream"}, {"mass": 3000, "island": "nowhere"}]


def predict(yard, body, model="fast", query=""):
    return yard.client().post(f"/api/v1/models/{model}/predict{query}", json=body)


@pytest.mark.parametrize(("model", "engine"), [("fast", "compiled"), ("slow", "sklearn")])
def test_both_engines_say_what_scikit_learn_says(predicting, model, engine):
    answer = predict(predicting, {"inputs": ROWS}, model)

    assert answer.status_code == 200, answer.text
    assert answer.json["engine"] == engine
    shares = [
        [row["probabilities"][name] for name in ("heavy", "light")]
        for row in answer.json["outputs"]
    ]
    np.testing.assert_allclose(shares, predicting.expected(model, ROWS), atol=1e-9)


@pytest.mark.parametrize("model", ["fast", "slow"])
def test_arrays_and_objects_in_any_order_are_the_same(predicting, model):
    objects = predict(predicting, {"inputs": ROWS}, model).json
    turned = [{"island": row["island"], "mass": row["mass"]} for row in ROWS]
    arrays = {"columns": ["island", "mass"], "rows": [[r["island"], r["mass"]] for r in ROWS]}

    assert predict(predicting, {"inputs": turned}, model).json == objects
    assert predict(predicting, arrays, model).json == objects


@pytest.mark.parametrize(
    ("row", "pointer", "code"),
    [
        ({"mass": 1}, "/inputs/1/island", "required"),
        ({**ROW, "wing": 1}, "/inputs/1/wing", "unknown_field"),
        ({**ROW, "mass": "heavy"}, "/inputs/1/mass", "type"),
        ({**ROW, "mass": True}, "/inputs/1/mass", "type"),
        ({**ROW, "island": 3}, "/inputs/1/island", "type"),
        ({**ROW, "island": None}, "/inputs/1/island", "null"),
        ({**ROW, "a/b~c": 1}, "/inputs/1/a~1b~0c", "unknown_field"),
    ],
)
def test_a_bad_row_is_pointed_at(predicting, row, pointer, code):
    problem = assert_problem(predict(predicting, {"inputs": [ROW, row]}), 422)

    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [1]},
        {"inputs": [ROW], "columns": ["mass"]},
        {"columns": ["mass", "island"]},
        {"rows": [[1, "a"]]},
        {"columns": ["mass"], "rows": [[1]]},
        {"columns": ["mass", "mass"], "rows": [[1, 2]]},
        {"columns": ["mass", "island"], "rows": [[1]]},
        {"columns": ["mass", "island"], "rows": [1]},
        {"inputs": [ROW], "include": ["everything"]},
        {"inputs": [ROW], "extra": 1},
        {"inputs": [{**ROW, "mass": {"a": 1}}]},
    ],
)
def test_another_form_is_422(predicting, body):
    assert_problem(predict(predicting, body), 422)


def test_too_many_rows_are_413(predicting):
    assert_problem(predict(predicting, {"inputs": [ROW] * 10_001}), 413)


def test_only_the_parts_asked_for_are_answered(predicting):
    answer = predict(predicting, {"inputs": [ROW], "include": ["label"]})

    assert answer.json["outputs"] == [{"label": "heavy"}]


def test_a_version_or_an_alias_may_be_named(any_predicting):
    yard = any_predicting
    client = yard.client()
    assert client.put("/api/v1/models/fast/aliases/test", json={"version": 1}).status_code == 201

    assert predict(yard, {"inputs": [ROW]}, query="?version=1").json["version"] == 1
    assert predict(yard, {"inputs": [ROW]}, query="?alias=test").json["version"] == 1
    assert_problem(predict(yard, {"inputs": [ROW]}, query="?version=2"), 404)
    assert_problem(predict(yard, {"inputs": [ROW]}, query="?alias=none"), 404)
    assert_problem(predict(yard, {"inputs": [ROW]}, query="?version=1&alias=test"), 422)
    assert_problem(predict(yard, {"inputs": [ROW]}, "nothing"), 404)


def test_a_moved_alias_is_followed(any_predicting):
    yard = any_predicting
    body = {"inputs": [ROW]}
    yard.wiring.follower.follow_once(wait=0)
    assert predict(yard, body).json["version"] == 1
    yard.make("fast", yard.pipelines["fast"].named_steps["model"])
    yard.wiring.follower.follow_once(wait=0)
    assert predict(yard, body).json["version"] == 2

    yard.client().put("/api/v1/models/fast/aliases/champion", json={"version": 1})
    yard.wiring.follower.follow_once(wait=0)

    assert predict(yard, body).json["version"] == 1
    yard.client().delete("/api/v1/models/fast/aliases/champion")
    yard.wiring.follower.follow_once(wait=0)
    assert predict(yard, body).json["version"] == 2


def test_a_deleted_model_is_gone_for_predictions_too(any_predicting):
    yard = any_predicting
    yard.wiring.follower.follow_once(wait=0)
    assert predict(yard, {"inputs": [ROW]}).status_code == 200

    assert yard.client().delete("/api/v1/models/fast").status_code == 204
    yard.wiring.follower.follow_once(wait=0)

    assert_problem(predict(yard, {"inputs": [ROW]}), 404)


def test_what_was_known_is_served_while_the_models_service_is_away(any_predicting):
    yard = any_predicting
    assert predict(yard, {"inputs": [ROW]}).status_code == 200
    directory = yard.wiring.directory
    directory._known.clear()

    def away(*_args, **_options):
        raise Unavailable("away")

    directory._models.state = directory._models.location = away

    assert predict(yard, {"inputs": [ROW]}).status_code == 200
    assert_problem(predict(yard, {"inputs": [ROW]}, "slow"), 503)


def test_a_scorer_that_is_away_costs_only_its_models(any_predicting):
    yard = any_predicting
    yard._server.stop()
    (yard.sockets / "scorer").unlink(missing_ok=True)

    assert_problem(predict(yard, {"inputs": [ROW]}, "slow"), 503)
    assert predict(yard, {"inputs": [ROW]}, "fast").status_code == 200


@pytest.mark.parametrize("model", ["fast", "slow"])
def test_swapped_bytes_are_never_loaded(any_predicting, model):
    yard = any_predicting
    store = Path(yard.settings.store().removeprefix("file://"))
    for path in store.rglob("default/models/*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-1] + b"X")

    assert_problem_of(predict(yard, {"inputs": [ROW]}, model), 503)


def assert_problem_of(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
