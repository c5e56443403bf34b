"""What an attacker sends to be scored: refused soon, in few words, and nothing of it is run."""

import pickle
import time

import numpy as np
import pytest

from app.kernel.http.bodies import MOST_MEMBERS
from tests.predictions.predicting import ROW
from tests.problems import assert_problem

pytestmark = pytest.mark.usefixtures("either_way")

PREDICT = "/api/v1/models/fast/predict"


def refused_soon(predicting, body, status=422, path=PREDICT):
    """The problem of a request that is refused before it has cost much."""
    started = time.monotonic()
    answer = predicting.client().post(path, json=body)
    assert time.monotonic() - started < 15
    assert len(answer.data) < 200_000
    return assert_problem(answer, status)


@pytest.mark.parametrize("name", ["mass", "unknown", 1])
def test_a_hundred_thousand_columns_are_refused_soon(predicting, name):
    """The bug: each name was looked for in a copy of all before it; a request took an hour."""
    problem = refused_soon(predicting, {"columns": [name] * MOST_MEMBERS, "rows": [[1]]})
    assert len(problem["errors"]) <= 100


@pytest.mark.parametrize("row", [{}, 1, {"mass": "x"}])
def test_a_hundred_thousand_rows_are_refused_soon(predicting, row):
    started = time.monotonic()
    answer = predicting.client().post(PREDICT, json={"inputs": [row] * MOST_MEMBERS})
    assert answer.status_code in (413, 422)
    assert len(answer.data) < 200_000
    assert time.monotonic() - started < 15


def test_a_row_of_very_many_columns_is_refused_soon(predicting):
    row = {**ROW, **{f"c{number}": 1 for number in range(MOST_MEMBERS - 2)}}
    assert len(refused_soon(predicting, {"inputs": [row]})["errors"]) == 100


@pytest.mark.parametrize(
    "value",
    [1e308, -1e308, 5e-324, 2**63 - 1, -(2**63), 0.1 + 0.2, -0.0],
)
@pytest.mark.parametrize("model", ["fast", "slow"])
def test_extreme_numbers_get_an_answer_or_a_refusal(predicting, model, value):
    answer = predicting.client().post(
        f"/api/v1/models/{model}/predict", json={"inputs": [{**ROW, "mass": value}]}
    )
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize(
    "text", ["", " ", "\u202e", "a" * 1_000_000, "' OR 1=1", "{{7*7}}", "\x1b[31m", "=cmd|calc"]
)
def test_any_text_is_a_category_that_training_never_saw(predicting, text):
    body = {"inputs": [{**ROW, "island": text}]}
    answer = predicting.client().post(PREDICT, json=body)
    assert answer.status_code == 200
    assert set(answer.json["outputs"][0]["probabilities"]) == {"light", "heavy"}


@pytest.mark.parametrize("path", [PREDICT, "/api/v1/predictions", "/api/v1/batch-predictions"])
def test_a_pickle_is_never_opened(predicting, tmp_path, path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return open, (str(canary), "w")

    for body in (pickle.dumps(Evil()), pickle.dumps(np.zeros(3))):
        for content_type in ("application/x-python-serialize", "application/octet-stream", None):
            answer = predicting.client().post(path, data=body, content_type=content_type)
            assert_problem(answer, 415)
        answer = predicting.client().post(path, data=body, content_type="application/json")
        assert_problem(answer, 400)
    assert not canary.exists()


@pytest.mark.parametrize(
    "smuggled",
    [
        "id",
        "project",
        "version",
        "engine",
        "outputs",
        "created_at",
        "artifact",
        "model_uri",
        "source",
        "path",
        "url",
    ],
)
def test_what_the_server_decides_cannot_be_sent(predicting, smuggled):
    body = {"model": "fast", "inputs": [ROW], smuggled: "http://127.0.0.1:1/"}
    problem = assert_problem(predicting.client().post("/api/v1/predictions", json=body), 422)
    assert problem["errors"][0]["pointer"] == f"/{smuggled}"


@pytest.mark.parametrize(
    "model",
    [
        "../../etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:1/model",
        "s3://bucket/model",
        "fast/../slow",
        "fast@../champion",
        "fast/1/artifacts/joblib",
        "fast/-1",
        "fast/0x1",
        "fast/1e0",
        "fast@",
        "fast\n",
        "\uff46ast",
        "fast/99999999999999999999",
        "fast/\u0661",
    ],
)
def test_a_model_is_named_and_never_located_by_a_client(predicting, model):
    body = {"model": model, "inputs": [ROW]}
    problem = assert_problem(predicting.client().post("/api/v1/predictions", json=body), 422)
    assert problem["errors"][0]["pointer"] == "/model"
    batch = {"model": model, "dataset": "penguins"}
    assert_problem(predicting.client().post("/api/v1/batch-predictions", json=batch), 422)


def test_a_stored_prediction_tells_its_inputs_as_data(predicting):
    """Markup and escapes come back as JSON, with a type that no browser guesses beyond."""
    text = "<script>alert(1)</script>"
    body = {"model": "fast", "inputs": [{**ROW, "island": text}]}
    made = predicting.client().post("/api/v1/predictions", json=body)
    shown = predicting.client().get(made.headers["Location"])
    assert shown.json["inputs"][0]["island"] == text
    assert shown.content_type == "application/json"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
