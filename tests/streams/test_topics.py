"""Topics as clients see them: creating, reading, changing, listing, removing."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.kernel.errors import Unavailable
from app.kernel.log.seam import NewRecord
from app.kernel.sql import utc_now
from app.streams.tables import EVENTS_TOPIC, Topic
from tests.problems import assert_problem
from tests.streams.topics import make_topic

TOPICS = "/api/v1/topics"


def test_a_topic_is_made_once_and_shows_its_bounds(yard):
    made = make_topic(yard, partitions=2, retention={"max_records": 10}, tags={"team": "air"})

    assert made.headers["Location"] == f"{TOPICS}/flights"
    assert made.json["partition_bounds"] == [
        {"partition": 0, "first": 0, "end": 0},
        {"partition": 1, "first": 0, "end": 0},
    ]
    assert made.json["retention"] == {
        "max_age_seconds": None,
        "max_records": 10,
        "max_bytes": None,
    }
    assert_problem(yard.client().post(TOPICS, json={"name": "flights"}), 409)
    listed = yard.client().get(f"{TOPICS}?name__prefix=fl&order_by=name").json["items"]
    assert [item["name"] for item in listed] == ["flights"]


def test_a_retry_with_its_idempotency_key_gets_the_first_answer(sqlite_yard):
    first, second = (
        sqlite_yard.client().post(
            TOPICS, json={"name": "flights"}, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    )

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.json, second.headers["ETag"]) == (first.json, first.headers["ETag"])


def test_a_patch_changes_what_it_names_and_is_guarded_by_the_etag(yard):
    etag = make_topic(yard, partitions=2, tags={"a": "1"}).headers["ETag"]
    client, guarded = yard.client(), {"If-Match": etag}
    retention = {"max_age_seconds": 60}

    changed = client.patch(f"{TOPICS}/flights", json={"retention": retention}, headers=guarded)
    stale = client.patch(f"{TOPICS}/flights", json={"overflow": "drop_oldest"}, headers=guarded)

    assert changed.json["retention"]["max_age_seconds"] == 60
    assert changed.json["tags"] == {"a": "1"}
    assert_problem(stale, 412)
    shown = client.get(f"{TOPICS}/flights")
    assert (shown.headers["ETag"], shown.json) == (changed.headers["ETag"], changed.json)
    assert client.get(f"{TOPICS}/flights", headers={"If-None-Match": changed.headers["ETag"]})
    row = yard.wiring.topics.find(yard.call(), "flights")
    assert (row.pending, row.shape.max_age) == (None, timedelta(seconds=60))


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"name": "modelyard.events"}, "/name", "reserved"),
        ({"name": "UPPER"}, "/name", "invalid"),
        ({"name": "a", "partitions": 0}, "/partitions", "invalid"),
        ({"name": "a", "partitions": 65}, "/partitions", "invalid"),
        ({"name": "a", "retention": {"max_records": 0}}, "/retention/max_records", "invalid"),
        ({"name": "a", "overflow": "block"}, "/overflow", "invalid"),
        ({"name": "a", "replica": 1}, "/replica", "unknown_field"),
    ],
)
def test_what_is_wrong_with_a_new_topic_is_told_at_its_place(sqlite_yard, body, pointer, code):
    problem = assert_problem(sqlite_yard.client().post(TOPICS, json=body), 422)

    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [(pointer, code)]


def test_partitions_never_change(sqlite_yard):
    make_topic(sqlite_yard)

    answer = sqlite_yard.client().patch(f"{TOPICS}/flights", json={"partitions": 2})

    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/partitions"


def test_a_removed_topic_is_gone_with_its_records_and_its_name_is_free(yard):
    make_topic(yard)
    row = yard.wiring.topics.find(yard.call(), "flights")
    yard.wiring.record_log.append(row.id, [NewRecord(b"1")])

    assert yard.client().delete(f"{TOPICS}/flights").status_code == 204
    assert_problem(yard.client().get(f"{TOPICS}/flights"), 404)
    assert make_topic(yard).json["partition_bounds"] == [{"partition": 0, "first": 0, "end": 0}]


def test_a_topic_that_a_living_group_reads_stays(yard):
    make_topic(yard)
    topics = yard.wiring.topics
    row = topics.find(yard.call(), "flights")
    with topics.database.write() as session:
        group = topics.groups.make(session, row, "planes", {0: 0})
    member = topics.groups.join(group.id)

    refused = assert_problem(yard.client().delete(f"{TOPICS}/flights"), 409)
    assert refused["referrers"][0]["subject"] == "consumer-groups/planes"

    topics.groups.leave(group.id, member.id)
    assert yard.client().delete(f"{TOPICS}/flights").status_code == 204


def away(*_):
    raise Unavailable("away")


def test_what_a_dead_process_left_half_made_is_swept_and_its_name_is_free(yard, monkeypatch):
    topics = yard.wiring.topics
    monkeypatch.setattr(topics.log, "create", away)
    assert_problem(yard.client().post(TOPICS, json={"name": "flights"}), 503)
    monkeypatch.undo()

    assert make_topic(yard).status_code == 201
    with topics.database.write() as session:
        old = utc_now() - timedelta(minutes=5)
        session.execute(update(Topic).values(pending="removing", updated_at=old))
    assert_problem(yard.client().get(f"{TOPICS}/flights"), 404)
    assert topics.sweep() == 1
    assert make_topic(yard).status_code == 201


def test_a_topic_that_was_given_up_while_it_was_made_is_not_told_as_made(sqlite_yard, monkeypatch):
    """The log took a minute; meanwhile the row was swept as one whose maker had died."""
    topics = sqlite_yard.wiring.topics
    create = topics.log.create

    def slow(name, shape):
        create(name, shape)
        with topics.database.write() as session:
            session.execute(update(Topic).values(updated_at=utc_now() - timedelta(minutes=5)))
        assert topics.sweep() == 1

    monkeypatch.setattr(topics.log, "create", slow)
    assert_problem(sqlite_yard.client().post(TOPICS, json={"name": "flights"}), 503)
    assert_problem(sqlite_yard.client().get(f"{TOPICS}/flights"), 404)


def test_a_name_that_is_just_being_made_is_not_taken_twice(sqlite_yard):
    make_topic(sqlite_yard)
    with sqlite_yard.wiring.topics.database.write() as session:
        session.execute(update(Topic).values(pending="making", updated_at=utc_now()))

    answer = sqlite_yard.client().post(TOPICS, json={"name": "flights"})

    assert_problem(answer, 409)
    assert sqlite_yard.wiring.topics.sweep() == 0


def test_the_topic_of_events_is_the_systems(sqlite_yard):
    sqlite_yard.wiring.topics.ensure_events_topic("default", timedelta(days=1))
    client = sqlite_yard.client()

    assert client.get(f"{TOPICS}/{EVENTS_TOPIC}").json["overflow"] == "drop_oldest"
    assert_problem(client.delete(f"{TOPICS}/{EVENTS_TOPIC}"), 409)
    assert_problem(client.patch(f"{TOPICS}/{EVENTS_TOPIC}", json={"description": "x"}), 409)
