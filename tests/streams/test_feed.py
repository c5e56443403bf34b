"""What happens in the system is in its project's topic of events, once and in order."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import delete

from app.kernel.events import Event, EventsDropped
from app.streams.feed import Feeder, OwnEvents
from app.streams.tables import EVENTS_TOPIC
from tests.problems import assert_problem
from tests.streams.topics import API, make_topic, read


def another_feeder(yard):
    """That of another process."""
    database = yard.wiring.database("streams")
    sources = [OwnEvents([database], ["datasets", "streams"])]
    return Feeder(yard.wiring.topics, sources, timedelta(days=1))


def types(yard, **where):
    return [record["headers"]["ce_type"] for record in read(yard, topic=EVENTS_TOPIC, **where)]


def test_events_come_in_order_as_cloud_events(yard):
    client = yard.client()
    client.post(f"{API}/datasets", json={"name": "penguins"})
    make_topic(yard)
    yard.wiring.feeder.feed_once()
    client.patch(f"{API}/datasets/penguins", json={"description": "x"})
    yard.wiring.feeder.feed_once()

    assert types(yard) == [
        "modelyard.dataset.created",
        "modelyard.topic.created",
        "modelyard.dataset.updated",
    ]
    record = read(yard, topic=EVENTS_TOPIC)[0]
    assert record["value"] == {"dataset": "penguins"}
    assert record["headers"]["ce_source"] == "/datasets"
    assert record["headers"]["ce_subject"] == "datasets/penguins"
    listed = client.get(f"{API}/events").json["items"]
    told = next(event for event in listed if event["type"] == "modelyard.dataset.created")
    assert record["headers"]["ce_id"] == told["id"]
    assert record["timestamp"] == told["time"]


def test_each_project_has_its_own_and_nobody_is_told_of_keys(sqlite_yard):
    other = sqlite_yard.client(sqlite_yard.key(project="other", role="maintainer"))
    other.post(f"{API}/datasets", json={"name": "theirs"})
    sqlite_yard.client().post(f"{API}/datasets", json={"name": "ours"})
    sqlite_yard.wiring.feeder.feed_once()

    assert [record["value"] for record in read(sqlite_yard, topic=EVENTS_TOPIC)] == [
        {"dataset": "ours"}
    ]
    theirs = other.get(f"{API}/topics/{EVENTS_TOPIC}/partitions/0/records").json["items"]
    assert [record["value"] for record in theirs] == [{"dataset": "theirs"}]


def test_many_who_feed_at_once_feed_each_event_once(yard):
    client = yard.client()
    feeders = [another_feeder(yard) for _ in range(3)]
    for number in range(6):
        client.post(f"{API}/datasets", json={"name": f"d{number}"})
        threads = [threading.Thread(target=feeder.feed_once) for feeder in feeders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for feeder in feeders:
        feeder.feed_once()
        feeder.feed_once()

    assert [record["value"]["dataset"] for record in read(yard, topic=EVENTS_TOPIC)] == [
        f"d{number}" for number in range(6)
    ]


def test_a_feeder_that_dies_before_it_commits_leaves_no_event_and_the_next_feeds_it(
    yard, monkeypatch
):
    yard.client().post(f"{API}/datasets", json={"name": "penguins"})
    feeder = another_feeder(yard)
    append = yard.wiring.record_log.append_in

    def dies(*args):
        append(*args)
        raise RuntimeError("killed")

    monkeypatch.setattr(yard.wiring.record_log, "append_in", dies)
    with pytest.raises(RuntimeError):
        feeder.feed_once()
    monkeypatch.undo()
    assert types(yard) == []

    assert another_feeder(yard).feed_once() == 1
    assert types(yard) == ["modelyard.dataset.created"]


def test_a_feeder_that_comes_too_late_goes_on_with_what_is_kept(sqlite_yard):
    client = sqlite_yard.client()
    client.post(f"{API}/datasets", json={"name": "first"})
    sqlite_yard.wiring.feeder.feed_once()
    for name in ("dropped", "kept"):
        client.post(f"{API}/datasets", json={"name": name})
    with sqlite_yard.wiring.database("streams").write() as session:
        last = session.query(Event).order_by(Event.position.desc()).first().position
        session.execute(delete(Event).where(Event.position < last))
        session.merge(EventsDropped(id=1, position=last - 1))

    late = another_feeder(sqlite_yard)
    assert [late.feed_once(), late.feed_once()] == [0, 1]

    told = [record["value"]["dataset"] for record in read(sqlite_yard, topic=EVENTS_TOPIC)]
    assert told == ["first", "kept"]


def test_a_project_in_which_nothing_has_happened_has_no_topic_of_events(sqlite_yard):
    assert_problem(sqlite_yard.client().get(f"{API}/topics/{EVENTS_TOPIC}"), 404)
