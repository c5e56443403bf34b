"""Streaming: records are produced and read by a group of which one member dies; nothing is lost."""

import threading
import time
from collections import defaultdict

import httpx
import pytest

from tests.server import Server

pytestmark = pytest.mark.slow

KEYS, ROUNDS = 12, 40
STREAM = "/topics/orders/records/stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of topics, with leases of two seconds and room for two tails."""
    environment = {
        "MODELYARD_SERVICES": "access,streams",
        "MODELYARD_WORKERS": "0",
        "MODELYARD_READER_LEASE": "2",
        "MODELYARD_TAIL_SLOTS": "2",
    }
    with Server(tmp_path_factory.mktemp("streaming"), environment) as running:
        with running.client() as client:
            made = client.post("/topics", json={"name": "orders", "partitions": 4})
            assert made.status_code == 201, made.text
        yield running


class Reader:
    """A member of the group. ``records`` are those whose commit was accepted, in its order."""

    def __init__(self, server):
        self._server = server
        self.records = []
        self.partitions = set()
        self.refused = 0

    def run(self, stopped, dies_holding=None):
        with self._server.client() as client:
            member = client.post("/consumer-groups/packers/members", json={}).json()["id"]
            while not stopped.is_set():
                path = f"/consumer-groups/packers/members/{member}/records"
                answer = client.get(path, params={"limit": 7, "wait": 1})
                assert answer.status_code == 200, answer.text
                fetched = answer.json()
                self.partitions |= {record["partition"] for record in fetched["items"]}
                if dies_holding is not None and len(self.records) >= dies_holding:
                    # Killed between reading and committing: it never says another word.
                    return
                if fetched["offsets"]:
                    self._commit(client, member, fetched)

    def _commit(self, client, member, fetched):
        body = {"member": member, "epoch": fetched["epoch"], "offsets": fetched["offsets"]}
        answer = client.put("/consumer-groups/packers/offsets", json=body)
        if answer.status_code == 409:
            self.refused += 1
            return
        assert answer.status_code == 200, answer.text
        self.records += fetched["items"]


def produce(server):
    with server.client() as client:
        for number in range(ROUNDS):
            records = [{"key": f"customer-{key}", "value": number} for key in range(KEYS)]
            answer = client.post("/topics/orders/records", json={"records": records})
            assert answer.status_code == 201, answer.text


def lag(server):
    with server.client() as client:
        return client.get("/consumer-groups/packers/lag").json()["lag"]


def test_one_of_two_dies_and_the_other_takes_over_without_a_loss_and_in_order(server):
    with server.client() as client:
        group = {"name": "packers", "topic": "orders"}
        assert client.post("/consumer-groups", json=group).status_code == 201
    stopped, mortal, other = threading.Event(), Reader(server), Reader(server)
    threads = [
        threading.Thread(target=mortal.run, args=(stopped, 30)),
        threading.Thread(target=other.run, args=(stopped,)),
        threading.Thread(target=produce, args=(server,)),
    ]
    for thread in threads:
        thread.start()
    threads[2].join(120)
    until = time.monotonic() + 120
    while lag(server) and time.monotonic() < until:
        time.sleep(0.2)
    stopped.set()
    for thread in threads:
        thread.join(30)

    assert not threads[0].is_alive()
    assert mortal.records
    assert other.partitions == {0, 1, 2, 3}
    places = [(r["partition"], r["offset"]) for r in mortal.records + other.records]
    assert len(places) == len(set(places)) == KEYS * ROUNDS
    # What the dead one committed comes before what the other read of the same key.
    by_key = defaultdict(list)
    for record in sorted(mortal.records + other.records, key=lambda r: r["offset"]):
        by_key[record["key"]].append(record["value"])
    assert set(map(tuple, by_key.values())) == {tuple(range(ROUNDS))}
    for reader in (mortal, other):
        for partition in range(4):
            offsets = [r["offset"] for r in reader.records if r["partition"] == partition]
            assert offsets == sorted(offsets)


def test_the_place_of_a_client_that_leaves_is_free_again(server):
    """A client that has gone is found out by writing to it."""
    with server.client() as client:
        tails = [client.send(client.build_request("GET", STREAM), stream=True) for _ in range(2)]
        assert [tail.status_code for tail in tails] == [200, 200]
        assert client.get(STREAM).status_code == 503
        for tail in tails:
            tail.close()
        left, until = time.monotonic(), time.monotonic() + 40
        while time.monotonic() < until:
            with client.stream("GET", STREAM) as answer:
                if answer.status_code == 200:
                    break
            time.sleep(0.2)
        assert time.monotonic() - left < 30


def test_a_tail_sees_a_record_that_is_produced_and_resumes(server):
    with server.client() as client:
        with client.stream("GET", STREAM) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry: ")
            record = {"key": "customer-0", "value": "seen"}
            client_of_another = httpx.Client(base_url=client.base_url, headers=client.headers)
            with client_of_another as producer:
                producer.post("/topics/orders/records", json={"records": [record]})
            told = [line for line in iter(lambda: next(lines), "") if line.startswith("id: ")]
            while not told:
                told = [line for line in iter(lambda: next(lines), "") if line.startswith("id: ")]
        position = told[0].removeprefix("id: ")
        headers = {"Last-Event-ID": position, "X-Request-Timeout": "1"}
        assert "data: " not in client.get(STREAM, headers=headers).text
