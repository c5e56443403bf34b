"""One trace through a real server: requests, job, child, scorer, peers, topic, processor."""

import time
from collections import defaultdict

import pytest

from tests.server import Server, wait_for
from tests.stories.main_job import PENGUINS, first_rows
from tests.tracing import OUTSIDE, TRACE, TRACEPARENT, Collector

FOREIGN = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
# Not served compiled: the scorer is asked.
SLOW = {"name": "KNeighborsClassifier", "params": {"weights": "distance", "algorithm": "brute"}}
SCORES = {
    "name": "scores",
    "kind": "predict",
    "topic": "penguins",
    "output_topic": "species",
    "dead_letter_topic": None,
    "predict": {"model": "penguins", "include_inputs": False},
}
TREE = """
POST /api/v1/datasets (api) < outside
convert (ingest) < POST /api/v1/datasets
POST /api/v1/training-runs (api) < outside
POST datasets (api) < POST /api/v1/training-runs
POST /api/v1/datasets/<name:dataset>/holds (api) < POST datasets
process training_run (worker) < POST /api/v1/training-runs
child fit (worker) < process training_run
fit (worker) < child fit
refit (worker) < fit
compile (worker) < child compile
POST models (worker) < process training_run
POST /api/v1/models/<name:model>/predict (api) < outside
score scorer (api) < POST /api/v1/models/<name:model>/predict
score (scorer) < score scorer
POST /api/v1/topics/<name:topic>/records (api) < outside
send penguins (api) < POST /api/v1/topics/<name:topic>/records
process penguins (processor-1) < send penguins
POST predictions (processor-1) < process penguins
"""


class Tree:
    """The spans of one trace: who did what beneath what."""

    def __init__(self, collector):
        spans = [(sender, one) for sender, one in collector.spans if one.trace_id.hex() == TRACE]
        names = {one.span_id.hex(): one.name for _, one in spans} | {OUTSIDE: "outside"}
        self.lines = defaultdict(list)
        for sender, one in spans:
            role = sender["modelyard.role"]
            role = "worker" if role.startswith("worker") else role
            parent = names.get(one.parent_span_id.hex(), "lost")
            self.lines[f"{one.name} ({role}) < {parent}"].append((sender, one))

    def attribute(self, line, name):
        _, span = self.lines[line][0]
        return next(a.value for a in span.attributes if a.key == name)


def live(client):
    """Upload, train, predict, produce: all that one traceparent came with."""
    with PENGUINS.open("rb") as table:
        files = {"file": ("penguins.csv", table, "text/csv")}
        made = client.post("/datasets", data={"name": "penguins"}, files=files, headers=FOREIGN)
    assert made.status_code == 201, made.text
    wanted = {"model": "penguins", "dataset": "penguins", "target": "species", "estimator": SLOW}
    accepted = client.post("/training-runs", json=wanted, headers=FOREIGN)
    assert accepted.status_code == 202, accepted.text
    run = wait_for(client, f"/training-runs/{accepted.json()['id']}")
    assert run["state"] == "succeeded", run
    (row,) = first_rows(1)
    path = "/models/penguins/predict"
    answer = client.post(path, json={"inputs": [row]}, headers=FOREIGN)
    assert answer.json()["engine"] == "sklearn", answer.text
    for topic in ("penguins", "species"):
        assert client.post("/topics", json={"name": topic}).status_code == 201
    assert client.post("/processors", json=SCORES).status_code == 201
    produced = client.post(
        "/topics/penguins/records", json={"records": [{"value": row}]}, headers=FOREIGN
    )
    assert produced.status_code == 201, produced.text
    return output(client)


def output(client):
    """What the processor has written, as soon as it is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        query = {"offset": 0, "wait": 10}
        answer = client.get("/topics/species/partitions/0/records", params=query)
        if answer.json()["items"]:
            return answer.json()["items"][0]
    raise AssertionError(client.get("/processors/scores").text)


@pytest.mark.slow
def test_one_trace_crosses_all_processes_of_a_server(tmp_path):
    collector = Collector()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "yard"}
    try:
        with Server(tmp_path / "home", environment) as server, server.client() as client:
            record = live(client)
            processes = {process.pid for process in server.processes("app role")}
        # Each process has sent what was left when it ended.
    finally:
        collector.close()
    tree = Tree(collector)
    missing = [line for line in TREE.strip().splitlines() if not tree.lines[line]]
    assert missing == [], "\n".join(sorted(tree.lines))
    assert not any(line.endswith("< lost") for line in tree.lines)

    own = tree.lines["process penguins (processor-1) < send penguins"][0][1]
    assert record["headers"]["traceparent"].split("-")[1:3] == [TRACE, own.span_id.hex()]
    senders = {
        sender["service.instance.id"] for found in tree.lines.values() for sender, _ in found
    }
    # The API, ingest, a worker, the scorer and a processor.
    assert len(senders) == 5
    assert {sender["service.name"] for sender, _ in collector.spans} == {"yard"}
    assert all(span.trace_state == "vendor=1" for found in tree.lines.values() for _, span in found)
    assert tree.attribute("fit (worker) < child fit", "process.pid").int_value not in processes
