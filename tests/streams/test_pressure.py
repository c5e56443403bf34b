"""Producers that are faster than their readers: refused, or what they lose is counted."""

from tests.problems import assert_problem
from tests.streams.processors.conftest import any_streaming
from tests.streams.processors.installation import PROCESSORS
from tests.streams.test_consumer_groups import commit, fetch, join, make_group
from tests.streams.topics import API, make_topic, produce

__all__ = ["any_streaming"]
ROUNDS, REQUESTS, MOST = 3, 20, 100


def flood(streaming):
    """Produce ten at a time while the processor stands still, then let it read all; repeatedly.

    What was accepted, how many requests were refused, and the most that it was behind.
    """
    state = f"{PROCESSORS}/sums/state"
    records = [{"key": "k", "value": {"at": 0, "x": 1}}] * 10
    accepted, refused, most_lag = 0, 0, 0
    for _ in range(ROUNDS):
        streaming.client.put(state, json={"state": "paused"})
        for _ in range(REQUESTS):
            answer = produce(streaming.yard, *records, topic="in")
            if answer.status_code == 201:
                accepted += 10
            else:
                assert_problem(answer, 429)
                assert int(answer.headers["Retry-After"]) >= 1
                refused += 1
        most_lag = max(most_lag, streaming.get()["lag"])
        streaming.client.put(state, json={"state": "running"})
        streaming.run_out()
    return accepted, refused, most_lag


def read_from(streaming, **topic):
    streaming.topics("in", **topic)
    streaming.topics("out", "dead")
    streaming.create()


def test_with_a_lag_that_is_bounded_all_that_was_accepted_is_processed(any_streaming):
    read_from(any_streaming, max_lag=MOST)
    accepted, refused, most_lag = flood(any_streaming)
    counts = any_streaming.get()["counts"]
    assert (accepted, refused, most_lag) == (ROUNDS * MOST, ROUNDS * 10, MOST)
    assert (counts["taken"], counts["gone"]) == (accepted, 0)


def test_what_a_topic_drops_unread_is_counted(any_streaming):
    read_from(any_streaming, overflow="drop_oldest", retention={"max_records": MOST})
    accepted, refused, most_lag = flood(any_streaming)
    counts = any_streaming.get()["counts"]
    assert (accepted, refused, most_lag) == (ROUNDS * REQUESTS * 10, 0, MOST)
    assert (counts["taken"], counts["gone"]) == (ROUNDS * MOST, accepted - ROUNDS * MOST)
    metrics = any_streaming.client.get("/metrics").text
    labels = 'outcome="gone",processor="sums",project="default"'
    assert f"modelyard_processor_records_total{{{labels}}} {counts['gone']}.0" in metrics


def test_the_slowest_reader_is_waited_for_and_no_reader_is_none(yard):
    make_topic(yard, partitions=2, max_lag=4)
    assert produce(yard, *({"value": n, "partition": 0} for n in range(9))).status_code == 201
    make_group(yard)
    problem = assert_problem(produce(yard, {"value": 9, "partition": 1}), 429)
    assert (problem["type"].rpartition("/")[2], problem["partition"]) == ("log-full", 0)
    member = join(yard)
    commit(yard, member, fetch(yard, member, "?limit=5"))
    assert_problem(produce(yard, {"value": 9}), 429)
    commit(yard, member, fetch(yard, member, "?limit=1"))
    assert produce(yard, {"value": 9}).status_code == 201


def test_a_bound_of_the_lag_can_be_changed_and_lifted(sqlite_yard):
    yard = sqlite_yard
    assert make_topic(yard).json["max_lag"] is None
    make_group(yard)
    path = f"{API}/topics/flights"
    assert yard.client().patch(path, json={"max_lag": 1}).json["max_lag"] == 1
    assert produce(yard, {"value": 1}).status_code == 201
    assert_problem(produce(yard, {"value": 2}), 429)
    assert yard.client().patch(path, json={"max_lag": None}).json["max_lag"] is None
    assert produce(yard, {"value": 2}).status_code == 201
    assert_problem(yard.client().patch(path, json={"max_lag": 0}), 422)
