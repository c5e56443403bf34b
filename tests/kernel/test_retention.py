"""What is only remembered for a while goes when its time is over, and a reader learns of it."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.config import Settings
from app.housekeeping import chores, do_chores
from app.kernel import events as event_log
from app.kernel.events import Event, EventLog
from app.kernel.idempotency import IdempotencyRow
from app.kernel.jobs.queue import Clock, JobRow
from app.kernel.sql import utc_now
from app.settings_table import SettingsError


def in_days(days):
    """A clock that is so many days ahead."""
    return Clock(now=lambda: utc_now() + timedelta(days=days))


def events(client, after=None, **more):
    query = {"after": after, **more}
    return client.get("/api/v1/events", query_string={k: v for k, v in query.items() if v})


def make_projects(yard, *names):
    for name in names:
        body, headers = {"name": name}, {"Idempotency-Key": f"project-{name}"}
        assert yard.client().post("/api/v1/projects", json=body, headers=headers).status_code == 201


def count(yard, table):
    with yard.wiring.database("access").read() as session:
        return session.scalar(select(func.count()).select_from(table))


def keep_house(yard, days):
    known = chores(yard.wiring, in_days(days))
    do_chores({name: known[name] for name in ("events-0", "jobs-0", "idempotency-0")})


def test_events_are_dropped_when_their_time_is_over_and_the_newest_stays(yard):
    make_projects(yard, "one", "two", "three")
    keep_house(yard, 29)
    assert count(yard, Event) == 3
    keep_house(yard, 31)
    kept = events(yard.client()).json["items"]
    assert [event["data"]["name"] for event in kept] == ["three"]


def test_a_reader_whose_position_was_dropped_learns_it_and_where_to_go_on(yard):
    """Events were silently missed once the first ones had been dropped."""
    start = events(yard.client(), "latest").json["next_position"]
    make_projects(yard, "one", "two", "three")
    keep_house(yard, 31)
    refused = events(yard.client(), start)
    assert (refused.status_code, refused.json["type"]) == (410, "/problems/gone")
    first = events(yard.client(), refused.json["first_position"])
    assert [event["data"]["name"] for event in first.json["items"]] == ["three"]


def test_a_reader_that_has_read_all_goes_on_after_a_drop(yard):
    make_projects(yard, "one", "two")
    position = events(yard.client()).json["next_position"]
    keep_house(yard, 31)
    assert events(yard.client(), position).json["items"] == []
    make_projects(yard, "three")
    assert len(events(yard.client(), position).json["items"]) == 1


def test_a_position_that_the_log_has_not_come_to_is_told(yard):
    """After a restore of an older backup a reader waited, and missed all up to its position."""
    make_projects(yard, "one")
    head = events(yard.client(), "latest").json["next_position"]
    ahead = events(yard.client(), str(int(head) + 5))
    assert ahead.status_code == 410
    assert ahead.json["first_position"] == head


def test_a_drop_that_ends_halfway_is_known_and_goes_on(yard, monkeypatch):
    start = events(yard.client(), "latest").json["next_position"]
    make_projects(yard, "one", "two", "three", "four")
    monkeypatch.setattr(event_log, "BATCH", 2)
    with monkeypatch.context() as patched:
        patched.setattr(event_log.time, "sleep", killed)
        with pytest.raises(RuntimeError):
            keep_house(yard, 31)
    assert count(yard, Event) == 2
    assert events(yard.client(), start).status_code == 410
    keep_house(yard, 31)
    assert count(yard, Event) == 1


def killed(_seconds):
    raise RuntimeError


def test_dropping_again_drops_nothing_twice(yard):
    make_projects(yard, "one", "two", "three")
    log = EventLog(yard.wiring.databases())
    assert log.forget(utc_now() + timedelta(days=1)) == 2
    assert log.forget(utc_now() + timedelta(days=1)) == 0


def test_idempotency_keys_and_ended_jobs_are_forgotten_in_their_time(yard):
    make_projects(yard, "one")
    queue = yard.wiring.jobs("access")
    with queue.database.write() as session:
        queue.enqueue(session, "test", "ended", project="default")
        queue.enqueue(session, "test", "waiting", project="default")
        queue.cancel_queued(session, "test", "ended")
    keep_house(yard, 0.5)
    assert (count(yard, IdempotencyRow), count(yard, JobRow)) == (1, 2)
    keep_house(yard, 2)
    assert (count(yard, IdempotencyRow), count(yard, JobRow)) == (0, 2)
    keep_house(yard, 31)
    assert count(yard, JobRow) == 1


@pytest.mark.parametrize("days", ["0", "never"])
def test_a_time_that_is_none_is_refused(days):
    with pytest.raises(SettingsError, match="MODELYARD_EVENTS_DAYS"):
        Settings.from_environment({"MODELYARD_EVENTS_DAYS": days})
