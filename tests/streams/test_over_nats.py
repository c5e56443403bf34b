"""Topics whose records are in a NATS: clients see no difference."""

import threading
import time

import pytest

from tests.nats import NatsServer
from tests.problems import assert_problem
from tests.streams.test_consumer_groups import GROUP, commit, fetch, join, make_group
from tests.streams.test_feed import types
from tests.streams.test_tail import events_of, follow
from tests.streams.topics import API, make_topic, page, produce, read
from tests.yard import Yard


@pytest.fixture(scope="module")
def nats(tmp_path_factory):
    """A real server."""
    server = NatsServer(tmp_path_factory.mktemp("nats")).start()
    server.wait_until_ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def yard(nats, tmp_path_factory):
    """An installation on it."""
    home = tmp_path_factory.mktemp("home")
    made = Yard(home, log_url=f"nats://{nats.address}")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_topic_is_left(yard):
    yield
    members = yard.client().get(f"{GROUP}/members").json.get("items", ())
    for member in members:
        yard.client().delete(f"{GROUP}/members/{member['id']}")
    assert yard.client().delete(f"{API}/topics/flights").status_code in (204, 404)


def test_records_are_produced_deduplicated_read_and_refused(yard):
    made = make_topic(yard, partitions=2, retention={"max_records": 4})
    assert made.json["replicas"] == 3
    records = [{"key": "JFK", "value": n, "id": str(n)} for n in range(4)]
    first, again = produce(yard, *records).json["offsets"], produce(yard, *records).json["offsets"]
    partition = first[0]["partition"]

    assert [place["offset"] for place in first] == [0, 1, 2, 3]
    assert [place["duplicate"] for place in again] == [True] * 4
    assert [record["value"] for record in read(yard, partition=partition)] == [0, 1, 2, 3]
    assert_problem(produce(yard, {"key": "JFK", "value": 9}), 429)
    assert_problem(page(yard, "?offset=9", partition=partition), 422)


def test_a_retry_with_its_idempotency_key_appends_nothing(yard):
    make_topic(yard)
    answers = [produce(yard, {"value": 1}, **{"Idempotency-Key": "n"}) for _ in range(2)]

    assert answers[0].json == answers[1].json
    assert len(read(yard)) == 1


def test_what_retention_has_dropped_is_410(yard):
    make_topic(yard, retention={"max_records": 2}, overflow="drop_oldest")
    for number in range(5):
        assert produce(yard, {"value": number}).status_code == 201

    assert assert_problem(page(yard, "?offset=0"), 410)["first"] == 3
    changed = {"retention": {"max_records": 1}}
    assert yard.client().patch(f"{API}/topics/flights", json=changed).status_code == 200
    assert [record["value"] for record in read(yard)] == [4]


def test_waiting_and_following_end_with_what_comes(yard):
    make_topic(yard)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(page(yard, "?offset=0&wait=20")))
    waiting.start()
    time.sleep(0.2)
    produce(yard, {"value": "now"})
    waiting.join(60)

    assert [record["value"] for record in answers[0].json["items"]] == ["now"]
    events = events_of(follow(yard, "?after=earliest", timeout="2").text)
    assert [record["value"] for *_, record in events] == ["now"]


def test_a_group_shares_and_commits(yard):
    make_topic(yard, partitions=2)
    produce(yard, *({"value": n, "partition": n % 2} for n in range(10)))
    make_group(yard)
    member = join(yard)
    fetched = fetch(yard, member)

    assert sorted(record["value"] for record in fetched["items"]) == list(range(10))
    assert commit(yard, member, fetched).json["lag"] == 0


def test_events_are_fed_and_relayed(yard):
    yard.client().post(f"{API}/datasets", json={"name": "penguins"})
    yard.wiring.feeder.feed_once()
    until = time.monotonic() + 90
    while "modelyard.dataset.created" not in types(yard):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_log_that_is_away_is_503_and_found_again(yard, nats):
    make_topic(yard)
    nats.kill()

    problem = assert_problem(produce(yard, {"value": 1, "id": "1"}), 503)
    assert problem["retryable"]
    nats.start()
    nats.wait_until_ready()
    until = time.monotonic() + 60
    while (answer := produce(yard, {"value": 1, "id": "1"})).status_code != 201:
        assert_problem(answer, 503)
        assert time.monotonic() < until
        time.sleep(0.1)
    assert [record["value"] for record in read(yard)] == [1]
