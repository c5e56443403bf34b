"""From a table to a prediction, over HTTP, against the real server on each kind of database."""

import csv
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import Server, wait_for

PENGUINS = Path(__file__).resolve().parents[2] / "examples" / "penguins.csv"
SERVICES = ("ACCESS", "DATASETS", "MODELS", "TRAINING", "PREDICTIONS", "STREAMS")


def environment(kind, home, fresh):
    if kind == "sqlite":
        return {}
    if kind == "postgresql":
        return {"MODELYARD_DATABASE_URL": fresh()}
    return {f"MODELYARD_{name}_DATABASE_URL": f"sqlite:///{home / name}.db" for name in SERVICES}


def metrics(server):
    """What Prometheus would read: values by name and labels."""
    with server.client() as client:
        told = client.get(f"{server.url}/metrics")
    assert told.status_code == 200, told.text
    families = text_string_to_metric_families(told.text)
    samples = [sample for family in families for sample in family.samples]
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels) if key != "le")): (
            sample.value
        )
        for sample in samples
    }


@pytest.fixture(scope="module", params=["sqlite", "sqlite-files", "postgresql"])
def server(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    fresh = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with Server(home, environment(request.param, home, fresh)) as running:
        yield running


def first_rows(count):
    with PENGUINS.open(newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    return [{name: value_of(name, row[name]) for name in row if name != "species"} for row in rows]


def value_of(name, text):
    if text in ("", "NA"):
        return None
    if name in ("island", "sex"):
        return text
    return int(text) if name in ("year", "flipper_length_mm", "body_mass_g") else float(text)


def test_a_table_becomes_a_prediction(server):
    with server.client() as client:
        made = client.post(
            "/datasets",
            data={"name": "penguins"},
            files={"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")},
        )
        assert made.status_code == 201, made.text

        version = client.get("/datasets/penguins/versions/1").json()
        assert version["rows"] == 344
        assert {c["name"]: c["type"] for c in version["columns"]}["species"] == "string"

        accepted = client.post(
            "/training-runs",
            json={"model": "penguins", "dataset": "penguins", "target": "species"},
            headers={"Idempotency-Key": "story"},
        )
        assert accepted.status_code == 202, accepted.text
        run = wait_for(client, f"/training-runs/{accepted.json()['id']}")
        assert run["state"] == "succeeded", run
        assert run["metrics"]["accuracy"] > 0.9 > run["baseline"]["accuracy"]

        rows = first_rows(5)
        stored = client.post("/predictions", json={"model": "penguins", "inputs": rows})
        assert stored.status_code == 201, stored.text
        assert [row["label"] for row in stored.json()["outputs"]] == ["Adelie"] * 5
        read = client.get(f"/predictions/{stored.json()['id']}").json()
        assert read == stored.json()

        unstored = client.post("/models/penguins/predict", json={"inputs": rows})
        assert unstored.status_code == 200, unstored.text
        assert unstored.json()["outputs"] == stored.json()["outputs"]
        assert unstored.json()["engine"] == "compiled"

        batch = client.post(
            "/batch-predictions", json={"model": "penguins/1", "dataset": "penguins"}
        )
        assert batch.status_code == 202, batch.text
        ended = wait_for(client, f"/batch-predictions/{batch.json()['id']}")
        assert ended["state"] == "succeeded", ended
        content = client.get(
            f"/batch-predictions/{ended['id']}/content", headers={"Accept": "text/csv"}
        )
        predicted = list(csv.DictReader(content.text.splitlines()))
        assert len(predicted) == 344
        assert sum(row["species"] == row["prediction"] for row in predicted) > 330

    told = metrics(server)
    for process in ("ingest", "scorer", "worker-1"):
        assert told["modelyard_process_up", process] == 1
    assert told["modelyard_job_seconds_count", "training_run", "ended", "worker-1"] == 1
    assert told["modelyard_job_seconds_count", "batch_prediction", "ended", "worker-1"] == 1
    assert told["modelyard_work", "training_run", "succeeded"] == 1
    assert told["modelyard_score_seconds_count", "compiled", "penguins"] == 2
    assert told["modelyard_model_cache_models",] == 1
    route = "/api/v1/models/<name:model>/predict"
    assert told["modelyard_request_seconds_count", "POST", route] == 1
