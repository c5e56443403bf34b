"""A view on a real server: processes that fold and recompute are killed, and nothing is lost."""

import contextlib
import json
from collections import Counter

import psutil
import pytest

from tests.faults.workers import eventually
from tests.server import Server, wait_for
from tests.streams.viewing import flights

pytestmark = [pytest.mark.slow, pytest.mark.long]

FLIGHTS = [
    {name: flight[name] for name in ("origin", "tailnum", "arr_delay")} for flight in flights(2000)
]
VIEW = {
    "name": "delays",
    "kind": "aggregate",
    "topic": "flights",
    "aggregate": {
        "group_by": ["origin"],
        "measures": [
            {"name": "flights", "function": "count"},
            {"name": "minutes", "function": "sum", "field": "arr_delay"},
        ],
    },
    "batch": {"lag_records": 500},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One with a topic and a view of it."""
    made = Server(tmp_path_factory.mktemp("views"), {"MODELYARD_READER_LEASE": "3"})
    with made, made.client() as client:
        client.post("/topics", json={"name": "flights", "partitions": 3}).raise_for_status()
        client.post("/lambda-views", json=VIEW).raise_for_status()
        yield made


def produce(client, rows):
    """Append rows, keyed by their planes."""
    records = [{"key": row["tailnum"] or "none", "value": row} for row in rows]
    client.post("/topics/flights/records", json={"records": records}).raise_for_status()


def kill(server, role):
    """Kill the processes of a role; the supervisor starts others."""

    def killed():
        # One that has just died may still be listed, as a zombie.
        with contextlib.suppress(psutil.NoSuchProcess):
            found = server.processes(f"role {role}")
            for process in found:
                process.kill()
            return bool(found)
        return False

    eventually(killed)


def test_processors_and_workers_are_killed_and_each_record_counts_once(server):
    with server.client() as client:
        for start in range(0, len(FLIGHTS), 50):
            produce(client, FLIGHTS[start : start + 50])
            if start % 500 == 250:
                kill(server, "processor")
            if start % 1000 == 500:
                kill(server, "worker")
        eventually(lambda: client.get("/lambda-views/delays/state").json()["behind"] == 0)
        counts, minutes = Counter(), Counter()
        for row in FLIGHTS:
            counts[row["origin"]] += 1
            minutes[row["origin"]] += row["arr_delay"] or 0
        for _ in range(2):
            told = client.get("/lambda-views/delays/values").json()
            assert {
                group["group"]["origin"]: (group["values"]["flights"], group["values"]["minutes"])
                for group in told["items"]
            } == {origin: (counts[origin], minutes[origin]) for origin in counts}
            eventually(lambda: server_is_through(client))
        assert told["batch_version"] >= 1


def server_is_through(client):
    """Whether no batch is under way, and one has come in place."""
    batches = client.get("/lambda-views/delays/batches").json()["items"]
    ended = {"succeeded", "failed", "cancelled"}
    return bool(batches) and {batch["state"] for batch in batches} <= ended


def test_a_record_counts_soon_after_it_was_produced(server):
    with server.client() as client:
        key = {"key": json.dumps(["EWR"])}
        before = client.get("/lambda-views/delays/value", params=key).json()["values"]["flights"]
        produce(client, [{"origin": "EWR", "tailnum": "N1", "arr_delay": 1}])
        eventually(
            lambda: (
                client.get("/lambda-views/delays/value", params=key).json()["values"]["flights"]
                == before + 1
            ),
            seconds=10,
        )


def test_a_batch_by_call_is_made_by_a_worker(server):
    with server.client() as client:
        made = client.post("/lambda-views/delays/batches").json()
        path = f"/lambda-views/delays/batches/{made['version']}"
        assert wait_for(client, path)["outcome"] == "serving"
        assert client.get("/lambda-views/delays").json()["batch_version"] == made["version"]
