"""The stream of what comes to a topic: resumed without a gap, bounded, and ended in order."""

import json
import threading

import pytest

from app.kernel.errors import Unavailable
from app.streams.records.shared_reading import SharedReading
from app.streams.records.tail import Tail, parsed_positions
from tests.problems import assert_problem
from tests.streams.topics import API, make_topic, produce
from tests.yard import Yard

PATH = f"{API}/topics/flights/records/stream"


def events_of(text):
    """Id, name and data of each event."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in fields:
            told = json.loads(fields["data"])
            found.append((fields.get("id"), fields.get("event", "message"), told))
    return found


def follow(yard, query="", timeout="0.4", **headers):
    headers = {"X-Request-Timeout": timeout, **headers}
    return yard.client().get(PATH + query, headers=headers)


def hear(yard, count, query="", **headers):
    """So many events of a stream, as soon as they are told."""
    with follow(yard, query, timeout="60", **headers) as answer:
        text = ""
        for piece in answer.iter_encoded():
            text += piece.decode()
            if text.count("data: ") >= count:
                return events_of(text)
    raise AssertionError(f"the stream has ended: {text}")


def test_a_tail_from_the_earliest_tells_all_and_resumes_after_any_event(sqlite_yard):
    make_topic(sqlite_yard, partitions=3)
    produce(sqlite_yard, *({"key": f"k{n}", "value": n} for n in range(20)))

    assert follow(sqlite_yard).content_type == "text/event-stream"
    events = hear(sqlite_yard, 20, "?after=earliest")

    assert sorted(told["value"] for *_, told in events) == list(range(20))
    for place in (0, 7, 18):
        resumed = hear(sqlite_yard, 19 - place, **{"Last-Event-ID": events[place][0]})
        assert [told["value"] for *_, told in resumed] == [
            told["value"] for *_, told in events[place + 1 :]
        ]


def test_a_tail_from_the_latest_tells_what_comes(sqlite_yard):
    make_topic(sqlite_yard)
    produce(sqlite_yard, {"value": "old"})
    answer = follow(sqlite_yard, timeout="60")
    pieces = answer.iter_encoded()
    assert next(pieces) == b"retry: 1000\n\n"
    produce(sqlite_yard, {"value": "new"})
    text = ""
    while "data: " not in text:
        text += next(pieces).decode()
    answer.close()

    assert [told["value"] for *_, told in events_of(text)] == ["new"]


def test_a_tail_that_is_silent_tells_that_it_lives(sqlite_yard):
    make_topic(sqlite_yard)
    topic = sqlite_yard.wiring.topics.find(sqlite_yard.call(), "flights")

    told = list(
        Tail(sqlite_yard.wiring.records.shared, topic.id, {0: 0}).follow(1.5, heartbeat=0.1)
    )

    assert 3 <= told.count(b": nothing new\n\n") <= 16


@pytest.mark.parametrize("text", ["", "x", "0", "0:-1", "0:1,", "3:0", "0:" + "9" * 19, "0:1;1:2"])
def test_what_is_no_id_of_an_event_is_refused(sqlite_yard, text):
    make_topic(sqlite_yard, partitions=3)

    problem = assert_problem(follow(sqlite_yard, **{"Last-Event-ID": text}), 422)

    assert problem["errors"][0]["pointer"] == "Last-Event-ID"


def test_positions_are_read_as_they_are_written():
    assert parsed_positions("0:42,2:7", 3) == {0: 42, 2: 7}


def test_a_position_that_retention_has_passed_is_told(sqlite_yard):
    make_topic(sqlite_yard, retention={"max_records": 2}, overflow="drop_oldest")
    for number in range(5):
        produce(sqlite_yard, {"value": number})

    events = hear(sqlite_yard, 1, **{"Last-Event-ID": "0:1"})

    assert events == [(None, "gone", {"partition": 0, "first": 3})]


def test_a_tail_ends_with_its_topic(sqlite_yard):
    make_topic(sqlite_yard)
    client = sqlite_yard.client()
    timer = threading.Timer(0.3, lambda: client.delete(f"{API}/topics/flights"))
    timer.start()

    events = events_of(follow(sqlite_yard, timeout="20").text)
    timer.join()

    assert events == [(None, "deleted", {})]
    assert_problem(follow(sqlite_yard), 404)


def test_a_tail_outlives_a_log_that_is_away(sqlite_yard):
    make_topic(sqlite_yard)
    topic = sqlite_yard.wiring.topics.find(sqlite_yard.call(), "flights")

    class Away:
        calls = 0

        def bounds(self, name):
            self.calls += 1
            if self.calls == 1:
                raise Unavailable("away")
            return sqlite_yard.wiring.record_log.bounds(name)

        def __getattr__(self, name):
            return getattr(sqlite_yard.wiring.record_log, name)

    produce(sqlite_yard, {"value": 1})
    told, pieces = "", Tail(SharedReading(Away()), topic.id, {0: 0}).follow(30)
    while "data: " not in told:
        told += next(pieces).decode()
    pieces.close()

    assert [value["value"] for *_, value in events_of(told)] == [1]


def test_there_are_so_many_tails_and_no_more(tmp_path):
    yard = Yard(tmp_path, tail_slots=1)
    make_topic(yard)
    with yard.wiring.tail_slots.hold():
        assert_problem(follow(yard), 503)
    assert follow(yard).status_code == 200
    assert follow(yard).status_code == 200
    yard.close()


def test_only_event_streams_are_offered(sqlite_yard):
    make_topic(sqlite_yard)

    assert_problem(follow(sqlite_yard, Accept="application/json"), 406)


def test_followers_at_one_place_read_once(sqlite_yard, monkeypatch):
    """Thirty of them asked the log thirty times the same, and /livez waited."""
    make_topic(sqlite_yard)
    produce(sqlite_yard, *({"value": n} for n in range(5)))
    log, shared = sqlite_yard.wiring.record_log, sqlite_yard.wiring.records.shared
    topic, reads, read = sqlite_yard.wiring.topics.find(sqlite_yard.call(), "flights"), [], log.read
    monkeypatch.setattr(log, "read", lambda *args: reads.append(args) or read(*args))

    tails = [Tail(shared, topic.id, {0: 0}).follow(5) for _ in range(30)]
    told = [[next(tail) for _ in range(2)][1] for tail in tails]
    for tail in tails:
        tail.close()

    assert len(set(told)) == 1
    assert [event["value"] for *_, event in events_of(told[0].decode())] == list(range(5))
    assert len(reads) == 1
    assert shared._topics == {}


def test_what_is_remembered_for_followers_is_bounded(sqlite_yard):
    make_topic(sqlite_yard)
    for _ in range(12):
        produce(sqlite_yard, {"value": "x" * 800_000})
    topic = sqlite_yard.wiring.topics.find(sqlite_yard.call(), "flights")
    shared = sqlite_yard.wiring.records.shared

    with shared.following(topic.id):
        for offset in range(12):
            shared.records(topic.id, 0, offset)
        assert shared._topics[topic.id].bytes <= 8_000_000
