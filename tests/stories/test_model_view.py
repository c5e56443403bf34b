"""A real server: flights are produced, a model is trained on them, learners follow, both answer."""

import json
import time

import pytest

from tests.server import Server, wait_for
from tests.streams.flights import moments
from tests.streams.model_viewing import LATE, record_of

LATE_VIEW = "/lambda-views/late"
pytestmark = [pytest.mark.slow, pytest.mark.long]


def _produce(client, some):
    records = [record_of(moment) for moment in some]
    told = [{"key": one.key.decode(), "value": json.loads(one.value)} for one in records]
    answer = client.post("/topics/flights/records", json={"records": told})
    assert answer.status_code == 201, answer.text


def _caught_up(client, seconds=60):
    until = time.monotonic() + seconds
    while (answer := _ask(client))["behind"]:
        assert time.monotonic() < until, answer
        time.sleep(0.1)
    return answer


def stream():
    """A few of the flights, as records."""
    return moments(60)


def _ask(client):
    rows = [moment.row for moment in stream()[:5] if moment.row is not None]
    answer = client.post(f"{LATE_VIEW}/predictions", json={"inputs": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_model_view_is_trained_and_followed_by_the_servers_own_processes(tmp_path):
    with Server(tmp_path / "home") as server, server.client() as client:
        topic = {"name": "flights", "partitions": 2}
        assert client.post("/topics", json=topic).status_code == 201
        view = {"name": "late", "kind": "model", "topic": "flights", "model": LATE}
        assert client.post("/lambda-views", json=view).status_code == 201
        _produce(client, stream()[:1000])
        batch = client.post(f"{LATE_VIEW}/batches")
        assert batch.status_code == 202, batch.text
        made = wait_for(client, f"{LATE_VIEW}/batches/1")
        assert (made["state"], made["outcome"]) == ("succeeded", "serving"), made
        _produce(client, stream()[1000:1500])
        answer = _caught_up(client)
        assert (answer["merge"], answer["batch_version"]) == ("blend", 1)
        assert sum(answer["speed_offsets"].values()) == 1500
        told = client.get(f"{LATE_VIEW}/metrics").json()
        assert told["in_all"]["merged"]["count"] > 150
