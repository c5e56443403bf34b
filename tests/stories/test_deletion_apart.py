"""What another service still needs stays: each with its own database, asking over HTTP."""

import time
from uuid import uuid4

import pytest

CSV = b"mass,species\n" + b"".join(b"%d,Adelie\n%d,Gentoo\n" % (n, 2 * n) for n in range(30, 60))
INPUT = {"name": "mass", "type": "integer", "nullable": False}


@pytest.fixture
def dataset(apart):
    """A client of the datasets service, where ``penguins`` has two versions."""
    with apart.client("datasets") as client:
        assert client.post("/datasets", json={"name": "penguins"}).status_code == 201
        for _ in range(2):
            sent = client.post(
                "/datasets/penguins/versions", content=CSV, headers={"Content-Type": "text/csv"}
            )
            assert sent.status_code == 201, sent.text
        yield client


def train(apart, version=1):
    """A run that waits for a worker; the clients that may end it."""
    client = apart.client("training")
    wanted = {"model": "m", "dataset": "penguins", "dataset_version": version, "target": "species"}
    run = client.post("/training-runs", json=wanted)
    assert run.status_code == 202, run.text
    return client, f"/training-runs/{run.json()['id']}"


def register(apart, version=1):
    """A model version that was trained on the dataset."""
    store = apart.services["models"].wiring.store
    stored = store.put(f"default/models/{uuid4()}.joblib", b"joblib")
    body = {
        "training_run": str(uuid4()),
        "task": "classification",
        "signature": {
            "inputs": [INPUT],
            "output": {"task": "classification", "classes": ["Adelie"], "probabilities": True},
        },
        "metrics": {},
        "baseline": {},
        "lineage": {
            "dataset": "penguins",
            "dataset_version": version,
            "dataset_digest": "sha-256:" + "a" * 64,
            "target": "species",
            "estimator": "auto",
            "random_state": 42,
            "library_versions": {"scikit-learn": "1.9.1"},
        },
        "artifacts": [{"format": "joblib", **vars(stored)}],
        "serving": {"engine": "sklearn", "reason": "not compiled", "verified": None},
        "recipe": [{"name": "mass", "source": "mass", "kind": "number"}],
    }
    with apart.peer("models", "training", "models:register") as client:
        made = client.post("/models/m/versions", json=body)
        assert made.status_code == 201, made.text


def referrers(client, path):
    """Who forbids a deletion: by the refusal and, the same, by the dry run."""
    refused = client.delete(path)
    assert refused.status_code == 409, refused.text
    planned = client.delete(path, params={"dry_run": True})
    assert planned.status_code == 200
    assert planned.json()["allowed"] is False
    assert planned.json()["referrers"] == refused.json()["referrers"]
    return [(found["service"], found["subject"]) for found in refused.json()["referrers"]]


def test_a_dataset_stays_while_a_run_needs_it_and_goes_after_it(apart, dataset):
    """For five minutes after its request, a run that had been deleted kept its dataset."""
    training, run = train(apart)
    for path in ("/datasets/penguins/versions/1", "/datasets/penguins"):
        assert referrers(dataset, path) == [("training", run[1:])]
    assert dataset.delete("/datasets/penguins/versions/2").status_code == 204

    assert training.post(f"{run}/cancel").status_code == 202
    assert training.delete(run).status_code == 204
    assert dataset.delete("/datasets/penguins").status_code == 204
    assert dataset.get("/datasets/penguins").status_code == 404


def test_a_request_that_was_only_checked_or_refused_keeps_nothing(apart, dataset):
    wanted = {"model": "m", "dataset": "penguins", "target": "species"}
    with apart.client("training") as training:
        checked = training.post("/training-runs", params={"validate_only": True}, json=wanted)
        assert checked.status_code == 200, checked.text
        refused = training.post("/training-runs", json=wanted | {"target": "wing"})
        assert refused.status_code == 422
    assert dataset.delete("/datasets/penguins").status_code == 204


def test_a_dataset_stays_while_a_model_version_was_trained_on_it(apart, dataset):
    register(apart)
    subject = ("models", "models/m/versions/1")
    for path in ("/datasets/penguins/versions/1", "/datasets/penguins"):
        assert referrers(dataset, path) == [subject]
    with apart.client("models") as models:
        assert models.delete("/models/m/versions/1").status_code == 204
    assert dataset.delete("/datasets/penguins/versions/1").status_code == 204


def test_a_batch_keeps_its_dataset_and_its_model_version(apart, dataset):
    register(apart)
    with apart.client("predictions") as predictions, apart.client("models") as models:
        wanted = {"model": "m/1", "dataset": "penguins", "dataset_version": 2}
        batch = predictions.post("/batch-predictions", json=wanted)
        assert batch.status_code == 202, batch.text
        path = f"/batch-predictions/{batch.json()['id']}"
        assert referrers(dataset, "/datasets/penguins/versions/2") == [("predictions", path[1:])]
        for model in ("/models/m/versions/1", "/models/m"):
            assert referrers(models, model) == [("predictions", path[1:])]

        assert predictions.post(f"{path}/cancel").status_code == 202
        assert predictions.delete(path).status_code == 204
        assert models.delete("/models/m").status_code == 204
    assert dataset.delete("/datasets/penguins").status_code == 204


def test_nothing_is_deleted_while_a_service_that_may_need_it_is_away(apart, dataset):
    training = apart.services["training"]
    training.stop()
    refused = dataset.delete("/datasets/penguins")
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    assert dataset.get("/datasets/penguins").status_code == 200
    training.start()
    assert dataset.delete("/datasets/penguins").status_code == 204


def processor(streams, name, model):
    """A processor that scores with a model; what ends it."""
    for topic in ("in", "out"):
        streams.post("/topics", json={"name": topic})
    body = {"kind": "predict", "topic": "in", "output_topic": "out", "dead_letter_topic": None}
    made = streams.post("/processors", json={"name": name, **body, "predict": {"model": model}})
    assert made.status_code == 201, made.text
    return f"processors/{name}"


def test_a_processor_keeps_the_model_that_it_scores_with(apart, dataset):
    """A model could be deleted under the processors that scored with it."""
    for version in (1, 1, 2):
        register(apart, version)
    with apart.client("streams") as streams, apart.client("models") as models:
        fixed = processor(streams, "fixed", "m/1")
        bare = processor(streams, "bare", "m")
        assert referrers(models, "/models/m") == [("streams", bare), ("streams", fixed)]
        assert referrers(models, "/models/m/versions/1") == [("streams", fixed)]
        # The bare name stands for the newest one.
        assert referrers(models, "/models/m/versions/3") == [("streams", bare)]
        assert models.delete("/models/m/versions/2").status_code == 204
        assert models.put("/models/m/aliases/champion", json={"version": 1}).status_code == 201
        assert models.delete("/models/m/versions/3").status_code == 204

        for name in (fixed, bare):
            assert streams.delete(f"/{name}").status_code == 204
        aliased = processor(streams, "aliased", "m@champion")
        [alias] = referrers(models, "/models/m/versions/1")
        assert alias == ("models", "models/m/aliases/champion")
        assert models.delete("/models/m/aliases/champion").status_code == 204
        assert referrers(models, "/models/m") == [("streams", aliased)]
        assert streams.delete(f"/{aliased}").status_code == 204
        assert models.delete("/models/m").status_code == 204


def test_a_model_is_kept_while_the_streams_service_is_away(apart):
    register(apart)
    service = apart.services["streams"]
    with apart.client("streams") as streams, apart.client("models") as models:
        name = processor(streams, "scores", "m")
        service.stop()
        for path in ("/models/m/versions/1", "/models/m"):
            refused = models.delete(path)
            assert refused.status_code == 503
            assert "Retry-After" in refused.headers
        service.start()
        until = time.monotonic() + 30
        # One that has failed several times is left alone for a moment.
        while models.delete("/models/m").status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert referrers(models, "/models/m") == [("streams", name)]
