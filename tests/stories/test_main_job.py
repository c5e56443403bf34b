"""From a table to a prediction, over HTTP, against the real server on each kind of database."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import Server
from tests.stories.main_job import main_job

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


FILES = pytest.param("sqlite-files", marks=[pytest.mark.slow, pytest.mark.long])


@pytest.fixture(scope="module", params=["sqlite", FILES, "postgresql"])
def server(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    fresh = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with Server(home, environment(request.param, home, fresh)) as running:
        yield running


@pytest.fixture
def estimator(server):
    """None for one database: which model is found has nothing to do with where rows are kept."""
    names_none = server.environment == {}
    return {} if names_none else {"estimator": {"name": "RandomForestClassifier"}}


def test_a_table_becomes_a_prediction(server, estimator):
    with server.client() as client:
        main_job(client, **estimator)
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
