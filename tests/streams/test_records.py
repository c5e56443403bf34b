"""Records as clients see them: any value in, the same value out, at the place that was told."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.kernel.log.seam import NewRecord
from app.kernel.log.tables import LogRecord
from app.streams.tables import EVENTS_TOPIC
from tests.problems import assert_problem
from tests.streams.topics import API, make_topic, page, produce, read
from tests.yard import Yard

VALUES = [None, True, 1, -0.5, "", "text: ü", [], [1, [2]], {"a": {"b": None}}, {}, 2**63 - 1]


def test_every_json_value_comes_back_as_it_was_sent(sqlite_yard):
    make_topic(sqlite_yard)

    answer = produce(sqlite_yard, *({"value": value} for value in VALUES))

    assert answer.status_code == 201
    assert [p["offset"] for p in answer.json["offsets"]] == list(range(len(VALUES)))
    assert [item["value"] for item in read(sqlite_yard)] == VALUES


def test_bytes_come_back_as_base64_and_texts_as_texts(sqlite_yard):
    make_topic(sqlite_yard)
    produce(
        sqlite_yard,
        {"value_base64": "/wA=", "key_base64": "/w=="},
        {"value_base64": "e30=", "key_base64": "YQ==", "headers": {"content-type": "text/json"}},
        {"value_base64": "e30=", "headers": {"content-type": "application/json"}},
        {"value_base64": "e2Jy", "headers": {"content-type": "application/json"}, "key": "ü"},
        {"value": 1, "key": ""},
    )

    found = read(sqlite_yard)

    assert [(r.get("key"), r.get("key_base64")) for r in found] == [
        (None, "/w=="),
        ("a", None),
        (None, None),
        ("ü", None),
        ("", None),
    ]
    assert [r.get("value_base64") for r in found] == ["/wA=", "e30=", None, "e2Jy", None]
    assert found[0]["headers"] == {"content-type": "application/octet-stream"}
    assert found[2]["value"] == {}


def test_records_of_one_key_keep_their_order_in_one_partition(sqlite_yard):
    make_topic(sqlite_yard, partitions=3)
    places = produce(sqlite_yard, *({"key": f"k{n % 5}", "value": n} for n in range(40))).json[
        "offsets"
    ]

    by_key = {}
    for number, place in enumerate(places):
        by_key.setdefault(number % 5, []).append((place["partition"], place["offset"]))

    for told in by_key.values():
        assert len({partition for partition, _ in told}) == 1
        assert told == sorted(told)


def test_a_record_is_kept_as_it_was_told_with_headers_id_and_time(sqlite_yard):
    make_topic(sqlite_yard, partitions=2)
    sent = {
        "value": 1,
        "key": "JFK",
        "id": "one",
        "partition": 1,
        "headers": {"trace.id": "a b"},
        "timestamp": "2013-01-01T05:00:00+02:00",
    }
    assert produce(sqlite_yard, sent).json["offsets"] == [
        {"partition": 1, "offset": 0, "duplicate": False}
    ]

    assert read(sqlite_yard, partition=1) == [
        {**sent, "offset": 0, "timestamp": "2013-01-01T03:00:00Z"}
    ]


def test_a_record_of_a_known_id_is_a_duplicate(yard):
    make_topic(yard)
    first, second = (produce(yard, {"value": 1, "id": "x"}).json["offsets"][0] for _ in range(2))

    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert first["offset"] == second["offset"]
    assert len(read(yard)) == 1


def test_a_retry_with_its_idempotency_key_appends_nothing(sqlite_yard):
    make_topic(sqlite_yard, partitions=2)
    records = [{"value": n} for n in range(5)]
    first = produce(sqlite_yard, *records, **{"Idempotency-Key": "k"})
    again = produce(sqlite_yard, *records, **{"Idempotency-Key": "k"})
    other = produce(sqlite_yard, {"value": 9}, **{"Idempotency-Key": "k"})

    assert first.json == again.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert_problem(other, 422)
    assert sum(len(read(sqlite_yard, partition=p)) for p in range(2)) == 5


def test_a_retry_after_a_crash_before_the_answer_was_stored_appends_nothing(yard):
    """The records are in the log before the answer is stored under the key."""

    class Dies:
        def complete(self, *_):
            raise RuntimeError("killed")

    make_topic(yard)
    records, call = yard.wiring.records, yard.call()
    some = [NewRecord(b"1")] * 3
    with pytest.raises(RuntimeError):
        records.append(replace(call, reservation=Dies()), "flights", some, "k")

    told = records.append(call, "flights", some, "k").offsets

    assert [place.duplicate for place in told] == [True] * 3
    assert len(read(yard)) == 3


@pytest.mark.parametrize(
    ("record", "pointer", "code"),
    [
        ({}, "value", "required"),
        ({"value": 1, "value_base64": "AA=="}, "value_base64", "invalid"),
        ({"value": 1, "key": "a", "key_base64": "AA=="}, "key_base64", "invalid"),
        ({"value_base64": "A"}, "value_base64", "invalid"),
        ({"value": 1, "key": "x" * 1001}, "key", "invalid"),
        ({"value": 1, "key": 7}, "key", "invalid"),
        ({"value": 1, "id": ""}, "id", "invalid"),
        ({"value": 1, "partition": 1}, "partition", "no_such_partition"),
        ({"value": 1, "partition": -1}, "partition", "invalid"),
        ({"value": 1, "partition": 0.0}, "partition", "invalid"),
        ({"value": 1, "timestamp": "yesterday"}, "timestamp", "invalid"),
        ({"value": 1, "headers": {"a:b": "x"}}, "headers/a:b", "invalid"),
        ({"value": 1, "headers": {"a": "x\ny"}}, "headers/a", "invalid"),
        ({"value": 1, "headers": None}, "headers", "null"),
        ({"value": 1, "offset": 3}, "offset", "unknown_field"),
        ({"value": {"a": [1, 2**63]}}, "value/a/1", "out_of_range"),
    ],
)
def test_what_is_wrong_with_a_record_is_told_at_its_place(one_yard, record, pointer, code):
    problem = assert_problem(produce(one_yard, {"value": 0}, record), 422)

    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [
        (f"/records/1/{pointer}", code)
    ]


@pytest.fixture(scope="module")
def one_yard(tmp_path_factory):
    """A yard for what changes nothing."""
    made = Yard(tmp_path_factory.mktemp("records"))
    make_topic(made)
    yield made
    made.close()


def test_no_records_or_too_many_are_refused(one_yard):
    assert_problem(produce(one_yard), 422)
    assert_problem(produce(one_yard, *[{"value": 0}] * 10_001), 422)


def test_a_record_that_is_too_large_is_413_at_its_place(one_yard):
    answer = produce(one_yard, {"value": 1}, {"value": "x" * 900_001})

    problem = assert_problem(answer, 413)
    assert [e["pointer"] for e in problem["errors"]] == ["/records/1"]


def test_a_full_topic_refuses_with_429_or_drops_its_oldest(yard):
    make_topic(yard, retention={"max_records": 3})
    make_topic(yard, "news", retention={"max_records": 3}, overflow="drop_oldest")
    some = [{"value": n} for n in range(3)]
    assert produce(yard, *some).status_code == 201

    refused = produce(yard, {"value": 9})
    produce(yard, *some, topic="news")
    assert produce(yard, {"value": 9}, topic="news").status_code == 201

    assert_problem(refused, 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert [item["value"] for item in read(yard)] == [0, 1, 2]
    bounds = yard.client().get(f"{API}/topics/news").json["partition_bounds"]
    assert bounds == [{"partition": 0, "first": 1, "end": 4}]


def test_what_retention_has_dropped_is_410_with_the_first_that_is_kept(yard):
    make_topic(yard, retention={"max_records": 2}, overflow="drop_oldest")
    for number in range(5):
        produce(yard, {"value": number})

    problem = assert_problem(page(yard, "?offset=0"), 410)

    assert problem["first"] == 3
    assert [item["value"] for item in read(yard, "?offset=3")] == [3, 4]
    assert [item["value"] for item in read(yard)] == [3, 4]


def test_pages_follow_one_another_and_full_ones_are_immutable(sqlite_yard):
    make_topic(sqlite_yard)
    produce(sqlite_yard, *({"value": n} for n in range(5)))

    first = page(sqlite_yard, "?offset=0&limit=3")
    second = page(sqlite_yard, f"?offset={first.json['next_offset']}&limit=3")

    assert [item["offset"] for item in first.json["items"]] == [0, 1, 2]
    assert [item["offset"] for item in second.json["items"]] == [3, 4]
    assert "immutable" in first.headers["Cache-Control"]
    assert "immutable" not in second.headers["Cache-Control"]
    known = page(sqlite_yard, "?offset=0&limit=3", **{"If-None-Match": first.headers["ETag"]})
    assert (known.status_code, known.data) == (304, b"")


def test_an_offset_that_is_still_to_come_is_refused_but_for_the_next_one(sqlite_yard):
    make_topic(sqlite_yard, partitions=2)
    assert page(sqlite_yard, "?offset=0").json == {"items": [], "next_offset": 0}
    problem = assert_problem(page(sqlite_yard, "?offset=1"), 422)
    assert problem["errors"][0]["pointer"] == "?offset"
    assert_problem(page(sqlite_yard, partition=2), 404)
    assert_problem(page(sqlite_yard, topic="none"), 404)


def test_waiting_ends_with_the_record_that_comes(yard):
    make_topic(yard)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(page(yard, "?offset=0&wait=20")))
    waiting.start()
    time.sleep(0.2)
    started = time.monotonic()
    produce(yard, {"value": "now"})
    waiting.join(60)

    assert [item["value"] for item in answers[0].json["items"]] == ["now"]
    assert time.monotonic() - started < 15


def test_waiting_ends_when_the_topic_is_deleted(sqlite_yard):
    make_topic(sqlite_yard)
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(page(sqlite_yard, "?offset=0&wait=20"))
    )
    waiting.start()
    time.sleep(0.2)
    assert sqlite_yard.client().delete(f"{API}/topics/flights").status_code == 204
    waiting.join(60)

    assert_problem(answers[0], 404)


def test_only_the_system_writes_events(sqlite_yard):
    sqlite_yard.wiring.topics.ensure_events_topic("default", timedelta(days=1))

    assert_problem(produce(sqlite_yard, {"value": 1}, topic=EVENTS_TOPIC), 409)
    assert read(sqlite_yard, topic=EVENTS_TOPIC) == []


def test_another_project_finds_no_topic_of_that_name(sqlite_yard):
    make_topic(sqlite_yard)
    client = sqlite_yard.client(sqlite_yard.key(project="other", role="maintainer"))

    assert_problem(client.get(f"{API}/topics/flights/partitions/0/records"), 404)
    records = {"records": [{"value": 1}]}
    assert_problem(client.post(f"{API}/topics/flights/records", json=records), 404)
    assert client.post(f"{API}/topics", json={"name": "flights"}).status_code == 201
    with sqlite_yard.wiring.database("streams").read() as session:
        assert list(session.scalars(select(LogRecord.offset))) == []
