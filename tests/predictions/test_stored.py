"""Stored predictions: kept as they were answered, listed, deleted one by one or by filter."""

import pytest

from app.kernel.sql import utc_now
from tests.predictions.predicting import ROW
from tests.problems import assert_problem

PATH = "/api/v1/predictions"


def store(yard, **body):
    return yard.client().post(PATH, json={"model": "fast", "inputs": [ROW], **body})


def test_a_prediction_is_read_back_as_it_was_answered(any_predicting):
    made = store(any_predicting)

    assert made.status_code == 201, made.text
    read = any_predicting.client().get(made.headers["Location"])
    assert read.json == made.json
    assert read.json["inputs"] == [ROW]
    assert read.headers["ETag"] == made.headers["ETag"]


@pytest.mark.parametrize("model", ["fast", "fast/1"])
def test_a_reference_names_a_model_or_a_version(any_predicting, model):
    assert store(any_predicting, model=model).json["version"] == 1


@pytest.mark.parametrize("model", ["none", "fast@none", "fast/9", "fast/0", "Fast", "../x", "a b"])
def test_what_does_not_exist_is_422_at_the_model(any_predicting, model):
    problem = assert_problem(store(any_predicting, model=model), 422)

    assert problem["errors"][0]["pointer"] == "/model"


def test_a_retry_with_its_key_is_stored_once(any_predicting):
    client = any_predicting.client()
    body = {"model": "fast", "inputs": [ROW]}
    answers = [client.post(PATH, json=body, headers={"Idempotency-Key": "once"}) for _ in range(3)]

    assert len({answer.json["id"] for answer in answers}) == 1
    assert [a.headers.get("Idempotent-Replayed") for a in answers] == [None, "true", "true"]
    assert len(client.get(PATH).json["items"]) == 1


def test_predictions_are_deleted_by_filter(any_predicting):
    yard = any_predicting
    for model in ("fast", "fast", "slow"):
        store(yard, model=model)
    client = yard.client()

    assert_problem(client.delete(PATH), 422)
    assert client.delete(f"{PATH}?model__eq=fast").json == {"deleted": 2}
    (left,) = client.get(PATH).json["items"]
    assert left["model"] == "slow"
    assert client.delete(f"{PATH}/{left['id']}").status_code == 204
    assert_problem(client.get(f"{PATH}/{left['id']}"), 404)


def test_columnar_inputs_are_kept_as_objects(any_predicting):
    made = any_predicting.client().post(
        PATH, json={"model": "fast", "columns": ["island", "mass"], "rows": [["Biscoe", 4200.0]]}
    )

    assert made.json["inputs"] == [ROW]


def test_retention_forgets_what_the_model_no_longer_keeps(any_predicting):
    yard = any_predicting
    client = yard.client()
    patched = client.patch("/api/v1/models/fast", json={"retention": {"max_rows": 2}})
    assert patched.status_code == 200, patched.text
    made = [store(yard).json["id"] for _ in range(5)]
    yard.wiring.follower.follow_once(wait=0)
    store(yard, model="slow")

    assert yard.wiring.predictions.sweep(utc_now()) == 3

    left = [item["id"] for item in client.get(f"{PATH}?model__eq=fast").json["items"]]
    assert left == made[:2:-1]
