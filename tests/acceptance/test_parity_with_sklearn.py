"""Fifty models through the API say what the same fifty say in plain scikit-learn."""

import io
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.acceptance import plain_sklearn
from tests.acceptance.parity_cases import CASES, title
from tests.acceptance.parity_rows import odd_rows
from tests.acceptance.parity_tables import table
from tests.server import NO_PROCESSORS, Server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TOLERANCE = 1e-9
ALONE = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # Two fits at once: each has one thread.
    settings = {**NO_PROCESSORS, "MODELYARD_SLOTS": "2"}
    with Server(tmp_path_factory.mktemp("parity"), settings) as running:
        yield running


@dataclass
class Trained:
    """A case and its run, not necessarily ended."""

    document: dict
    location: str
    model: str


def upload(client, wanted):
    files = {"file": (f"{wanted.name}.csv", wanted.as_csv(), "text/csv")}
    made = client.post("/datasets", data={"name": wanted.name}, files=files)
    assert made.status_code == 201, made.text


def submit(client, wanted, documents, prefix=""):
    submitted = []
    for number, document in enumerate(documents):
        model = f"{wanted.name}-{prefix}{number}"
        body = {"model": model, "dataset": wanted.name, "target": wanted.target}
        body |= {"estimator": document, "random_state": plain_sklearn.RANDOM_STATE}
        answer = client.post("/training-runs", json=body)
        assert answer.status_code == 202, answer.text
        location = answer.headers["Location"].removeprefix("/api/v1")
        submitted.append(Trained(document, location, model))
    return submitted


def ended(client, trained):
    run = wait_for(client, trained.location, seconds=300)
    assert run["state"] == "succeeded", (title(trained.document), run["error"])
    return run


def predict(client, model, names, rows):
    body = {"columns": names, "rows": [[row[name] for name in names] for row in rows]}
    answer = client.post(f"/models/{model}/predict", json=body)
    assert answer.status_code == 200, (model, answer.text[:1000])
    return answer.json()["engine"], answer.json()["outputs"]


def numbers_of(outputs):
    """What a model said in numbers, in the order of the classes; nothing if labels alone."""
    if "value" in outputs[0]:
        return np.array([[row["value"]] for row in outputs])
    return np.array([list(row.get("probabilities", {}).values()) for row in outputs])


def labels_of(outputs):
    return [row.get("label") for row in outputs]


def said_by(pipeline, frame):
    """The same of a fitted pipeline: labels and numbers."""
    told = pipeline.predict(frame)
    if not hasattr(pipeline[-1], "classes_"):
        return [None] * len(told), told.reshape(len(told), -1)
    shares = pipeline.predict_proba(frame) if hasattr(pipeline, "predict_proba") else None
    return told.tolist(), np.empty((len(told), 0)) if shares is None else shares


def farthest(given, expected):
    """The largest difference, of large numbers in relation to them."""
    assert given.shape == expected.shape
    return float((np.abs(given - expected) / np.maximum(1, np.abs(expected))).max(initial=0.0))


def artifact(client, model):
    answer = client.get(f"/models/{model}/versions/1/artifacts/joblib")
    assert answer.status_code == 200, answer.text
    return joblib.load(io.BytesIO(answer.content))


def compare(client, wanted, trained):
    """One model by three ways; the engine and the largest difference."""
    run = ended(client, trained)
    name = title(trained.document)
    plain, metrics = plain_sklearn.trained(wanted, trained.document)
    for metric, value in metrics.items():
        assert run["metrics"][metric] == pytest.approx(value, abs=TOLERANCE), (name, metric)

    rows = [*wanted.rows, *odd_rows(wanted, trained.document, plain)]
    frame = plain_sklearn.frame(wanted, rows)
    names = list(frame)
    engine, outputs = predict(client, trained.model, names, rows)
    labels, numbers = said_by(plain, frame)
    assert labels_of(outputs) == labels, name
    differs = farthest(numbers_of(outputs), numbers)
    stored = said_by(artifact(client, trained.model), frame)
    assert stored[0] == labels, name
    assert max(differs, farthest(numbers_of(outputs), stored[1])) <= TOLERANCE, (name, differs)
    for place in (0, len(wanted.rows), len(rows) - ALONE):
        alone = predict(client, trained.model, names, rows[place : place + 1])[1]
        assert labels_of(alone) == labels[place : place + 1]
        assert farthest(numbers_of(alone), numbers[place : place + 1]) <= TOLERANCE
    return engine, differs, len(rows)


def assert_parity(client, name):
    wanted, engines = table(name), Counter()
    upload(client, wanted)
    runs = submit(client, wanted, CASES[name])
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trained in runs:
            engine, differs, rows = compare(client, wanted, trained)
            engines[engine] += 1
            print(f"{name} {title(trained.document)}: {engine}, {differs:.1e}, {rows} rows")  # noqa: T201
    assert engines["compiled"] >= 7
    assert engines["sklearn"] >= 1


@pytest.mark.parametrize("name", ["iris", pytest.param("diabetes", marks=pytest.mark.long)])
def test_ten_models_of_a_table_say_what_scikit_learn_says(server, name):
    with server.client() as client:
        assert_parity(client, name)


@pytest.mark.long
@pytest.mark.parametrize("name", ["wine", "breast_cancer", "digits"])
def test_ten_models_of_a_larger_table_say_what_scikit_learn_says(server, name):
    with server.client() as client:
        assert_parity(client, name)


DRAWN = ("ExtraTreesClassifier", "BaggingClassifier", "AdaBoostClassifier", "LinearSVC")


def lineage_of(version):
    """What the model was made of; without the run, which alone differs."""
    lineage = {**version["lineage"]}
    assert lineage.pop("training_run")
    assert (lineage["random_state"], lineage["dataset"]) == (plain_sklearn.RANDOM_STATE, "again")
    return lineage


def digest_of(version):
    """The digest of the compiled form: the same model always has the same bytes."""
    (digest,) = (a["digest"] for a in version["artifacts"] if a["format"] == "compiled")
    return digest


def test_the_same_request_again_gives_the_same_metrics_and_the_same_model(server):
    wanted = replace(table("wine"), name="again")
    documents = [case for case in CASES["wine"] if title(case) in DRAWN]
    with server.client() as client:
        upload(client, wanted)
        runs = [submit(client, wanted, documents, prefix) for prefix in "ab"]
        for pair in zip(*runs, strict=True):
            metrics = [ended(client, trained)["metrics"] for trained in pair]
            assert metrics[0] == metrics[1]
            versions = [client.get(f"/models/{one.model}/versions/1").json() for one in pair]
            assert lineage_of(versions[0]) == lineage_of(versions[1])
            assert digest_of(versions[0]) == digest_of(versions[1])
