"""CloudEvents 1.0 are taken in their three modes, by their rules, and read as records."""

import json

import pytest

from tests.problems import assert_problem
from tests.streams.topics import API, make_topic, read
from tests.yard import Yard

EVENT = {
    "specversion": "1.0",
    "id": "411",
    "source": "/airports/jfk",
    "type": "flight.departed",
    "subject": "AA411",
    "time": "2013-01-01T05:17:00Z",
    "partitionkey": "JFK",
    "data": {"dep_delay": 4},
}
HEADERS = {f"ce-{name}": str(value) for name, value in EVENT.items() if name != "data"}
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"


def send(yard, body, content_type, topic="flights", **headers):
    path = f"{API}/topics/{topic}/records"
    data = body if isinstance(body, bytes) else json.dumps(body)
    return yard.client().post(path, data=data, content_type=content_type, headers=headers)


def test_the_three_modes_make_the_same_record(sqlite_yard):
    make_topic(sqlite_yard, partitions=3)
    told = []
    for number, (body, content_type, headers) in enumerate(
        [
            ({"dep_delay": 4}, "application/json", HEADERS),
            ({**EVENT, "datacontenttype": "application/json"}, STRUCTURED, {}),
            ([{**EVENT, "datacontenttype": "application/json"}], BATCHED, {}),
        ]
    ):
        assert send(sqlite_yard, body, content_type, **headers).status_code == 201, number
    for partition in range(3):
        told += read(sqlite_yard, partition=partition)

    # Source and id are the same: the second and third are duplicates.
    assert len(told) == 1
    record = told[0]
    assert (record["key"], record["value"]) == ("JFK", {"dep_delay": 4})
    assert (record["id"], record["timestamp"]) == ("411@/airports/jfk", "2013-01-01T05:17:00Z")
    assert record["headers"] == {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": "411",
        "ce_source": "/airports/jfk",
        "ce_type": "flight.departed",
        "ce_subject": "AA411",
        "ce_time": "2013-01-01T05:17:00Z",
        "ce_partitionkey": "JFK",
    }


def test_data_of_other_types_is_kept_as_bytes(sqlite_yard):
    make_topic(sqlite_yard)
    base = {name: EVENT[name] for name in ("specversion", "source", "type")}
    sent = [
        send(sqlite_yard, b"\xff\x00", "image/png", **{**HEADERS, "ce-id": "1"}),
        send(sqlite_yard, {**base, "id": "2", "data_base64": "/wA="}, STRUCTURED),
        send(
            sqlite_yard,
            {**base, "id": "3", "datacontenttype": "text/plain", "data": "é"},
            STRUCTURED,
        ),
        send(sqlite_yard, {**base, "id": "4", "flag": True, "count": 7, "gone": None}, STRUCTURED),
        send(sqlite_yard, b"", None, **{**HEADERS, "ce-id": "5", "ce-note": "a%20%C3%A9"}),
    ]
    assert [answer.status_code for answer in sent] == [201] * 5

    found = {record["headers"]["ce_id"]: record for record in read(sqlite_yard)}

    assert found["1"]["value_base64"] == found["2"]["value_base64"] == "/wA="
    assert found["3"]["value_base64"] == "w6k="
    assert found["4"]["value"] is None
    assert found["4"]["headers"]["ce_flag"] == "true"
    assert found["4"]["headers"]["ce_count"] == "7"
    assert "ce_gone" not in found["4"]["headers"]
    assert found["5"]["headers"]["ce_note"] == "a é"


@pytest.fixture(scope="module")
def one_yard(tmp_path_factory):
    """A yard for what changes nothing."""
    made = Yard(tmp_path_factory.mktemp("events"))
    make_topic(made)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"id": None}, "/id", "required"),
        ({"specversion": None}, "/specversion", "required"),
        ({"specversion": "0.3"}, "/specversion", "invalid"),
        ({"source": ""}, "/source", "invalid"),
        ({"source": "a b"}, "/source", "invalid"),
        ({"type": 7}, "/type", "invalid"),
        ({"time": "now"}, "/time", "invalid"),
        ({"dataschema": "relative"}, "/dataschema", "invalid"),
        ({"datacontenttype": "json", "data": "x"}, "/datacontenttype", "invalid"),
        ({"dataContentType": "text/plain"}, "/dataContentType", "invalid"),
        ({"some_name": "x"}, "/some_name", "invalid"),
        ({"count": 2**31}, "/count", "invalid"),
        ({"count": 1.5}, "/count", "invalid"),
        ({"extension": {"a": 1}}, "/extension", "invalid"),
        ({"subject": "a\nb"}, "/subject", "invalid"),
        ({"partitionkey": "x" * 1001}, "/partitionkey", "invalid"),
        ({"data_base64": "AA=="}, "/data_base64", "invalid"),
        ({"data": None, "data_base64": "A"}, "/data_base64", "invalid"),
        ({"datacontenttype": "text/plain"}, "/data", "invalid"),
    ],
)
def test_what_is_no_event_is_told_at_its_place(one_yard, changes, pointer, code):
    for place, body, kind in (
        ("", {**EVENT, **changes}, STRUCTURED),
        ("/1", [EVENT, {**EVENT, **changes}], BATCHED),
    ):
        problem = assert_problem(send(one_yard, body, kind), 422)
        assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [(place + pointer, code)]


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"ce-id": ""}, "ce-id"),
        ({"ce-specversion": "1"}, "ce-specversion"),
        ({"ce-Bad_name": "x"}, "ce-bad-name"),
        ({"ce-subject": "%FF"}, "ce-subject"),
        ({"ce-subject": "%0A"}, "ce-subject"),
        ({"ce-datacontenttype": "text/plain"}, "ce-datacontenttype"),
    ],
)
def test_what_is_wrong_with_a_header_is_told_by_its_name(one_yard, headers, pointer):
    answer = send(one_yard, {}, "application/json", **{**HEADERS, **headers})

    assert [e["pointer"] for e in assert_problem(answer, 422)["errors"]] == [pointer]


def test_bodies_that_are_no_events_are_refused(one_yard):
    assert_problem(send(one_yard, [], BATCHED), 422)
    assert_problem(send(one_yard, {}, BATCHED), 422)
    assert_problem(send(one_yard, [1], BATCHED), 422)
    assert_problem(send(one_yard, b"{", STRUCTURED), 400)
    assert_problem(send(one_yard, b"{", "application/json", **HEADERS), 400)
    assert_problem(send(one_yard, b"a", "text/plain"), 415)
    large = {**EVENT, "data": "x" * 900_001}
    assert assert_problem(send(one_yard, [large], BATCHED), 413)["errors"][0]["pointer"] == "/0"


def test_an_event_takes_an_idempotency_key(one_yard):
    body = [{**EVENT, "id": "keyed"}]
    first, again = (send(one_yard, body, BATCHED, **{"Idempotency-Key": "e"}) for _ in range(2))
    other = send(one_yard, [EVENT], BATCHED, **{"Idempotency-Key": "e"})

    assert (first.status_code, first.json) == (201, again.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert_problem(other, 422)
