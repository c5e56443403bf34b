"""From records to a model: a topic is archived, and what is trained on it tells which records."""

import time

import pytest

from app.processor_role import make_runtime
from tests.server import Server, wait_for

PROCESSOR = {
    "name": "flights-kept",
    "kind": "archive",
    "topic": "flights",
    "dead_letter_topic": None,
    "archive": {"dataset": "flights", "rows": 200, "seconds": 600},
}


def furnish(client, count):
    """A topic of flights, and who archives them."""
    topic = {"name": "flights", "partitions": 1}
    assert client.post("/topics", json=topic).status_code == 201
    answer = client.post("/processors", json=PROCESSOR)
    assert answer.status_code == 201, answer.text
    values = [{"hour": n % 24, "distance": 100 + n, "late": n % 24 > 15} for n in range(count)]
    body = {"records": [{"value": value} for value in values]}
    answer = client.post("/topics/flights/records", json=body)
    assert answer.status_code == 201, answer.text


def origin(first, end):
    offsets = [{"partition": 0, "first": first, "next": end}]
    return {"topic": "flights", "processor": "flights-kept", "offsets": offsets}


def test_services_apart_archive_over_http(apart):
    with apart.client("streams") as streams, apart.client("datasets") as datasets:
        furnish(streams, 450)
        runtime = make_runtime(apart.services["streams"].wiring, "one")
        until = time.monotonic() + 60
        while streams.get("/processors/flights-kept").json()["lag"] != 50:
            assert time.monotonic() < until, streams.get("/processors/flights-kept").text
            runtime.turn()
            time.sleep(0.01)
        runtime.stop()
        runtime.run()
        found = datasets.get("/datasets/flights/versions?order_by=version").json()["items"]
        assert [one["origin"] for one in found] == [origin(0, 200), origin(200, 400)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_that_was_trained_on_archived_records_tells_which(tmp_path):
    with Server(tmp_path / "home") as server, server.client() as client:
        furnish(client, 400)
        until = time.monotonic() + 240
        while client.get("/processors/flights-kept").json()["lag"]:
            assert time.monotonic() < until, client.get("/processors/flights-kept").text
            time.sleep(0.2)
        wanted = {
            "model": "late",
            "dataset": "flights",
            "dataset_version": 2,
            "target": "late",
            "estimator": {"name": "DecisionTreeClassifier"},
        }
        asked = client.post("/training-runs", json=wanted)
        assert asked.status_code == 202, asked.text
        run = wait_for(client, f"/training-runs/{asked.json()['id']}", seconds=300)
        assert run["state"] == "succeeded", run
        assert run["dataset_origin"] == origin(200, 400)
        lineage = client.get("/models/late/versions/1").json()["lineage"]
        assert lineage["dataset_origin"] == origin(200, 400)
        assert (lineage["dataset"], lineage["dataset_version"]) == ("flights", 2)
