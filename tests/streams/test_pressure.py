"""Producers that are faster than their readers: refused, or what they lose is counted."""

from tests.problems import assert_problem
from tests.streams.processors.conftest import any_streaming
from tests.streams.test_consumer_groups import commit, fetch, join, make_group
from tests.streams.topics import API, make_topic, produce

__all__ = ["any_streaming"]
MANY, MOST = 600, 100


def flood(streaming, topic):
    """Produce ten at a time while a processor takes what it can now and then; what was taken."""
    accepted, refused, most_lag = 0, 0, 0
    for start in range(0, MANY, 10):
        records = [{"key": str(n), "value": {"at": n, "x": 1}} for n in range(start, start + 10)]
        answer = produce(streaming.yard, *records, topic=topic)
        if answer.status_code == 201:
            accepted += 10
        else:
            assert_problem(answer, 429)
            assert int(answer.headers["Retry-After"]) >= 1
            refused += 1
        most_lag = max(most_lag, streaming.get()["lag"])
        if start % (2 * MOST) == 0:
            streaming.runtimes[0].turn()
    streaming.run_out()
    return accepted, refused, most_lag


def read_from(streaming, **topic):
    streaming.topics("in", **topic)
    streaming.topics("out", "dead")
    streaming.create()
    streaming.runtime()


def test_with_a_lag_that_is_bounded_all_that_was_accepted_is_processed(any_streaming):
    read_from(any_streaming, max_lag=MOST)
    accepted, refused, most_lag = flood(any_streaming, "in")
    counts = any_streaming.get()["counts"]
    assert refused > 0
    assert MOST <= most_lag <= MOST + 10
    assert (counts["taken"], counts["gone"]) == (accepted, 0)


def test_what_a_topic_drops_unread_is_counted(any_streaming):
    read_from(any_streaming, overflow="drop_oldest", retention={"max_records": MOST})
    accepted, refused, most_lag = flood(any_streaming, "in")
    counts = any_streaming.get()["counts"]
    assert (accepted, refused) == (MANY, 0)
    assert most_lag <= MOST
    assert counts["gone"] > 0
    assert counts["taken"] + counts["gone"] == accepted
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
