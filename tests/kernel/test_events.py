"""Waiting for events: many wait at the price of one, and hear of what other processes write."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, event

from app.kernel.changes import Changes
from app.kernel.errors import Gone
from app.kernel.events import Event, EventLog
from app.kernel.sql import Database, KernelBase
from tests.yard import Yard

WAITERS = 8


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    KernelBase.metadata.create_all(made.engine)
    yield made
    made.close()


def tell(database, service):
    with Changes(database, service).begin(Yard.call(None)) as change:
        change.record("model.created", "models/m", {"model": "m"})


def asked_of(database):
    """The texts of all that is asked of it from now on, outside of writes."""
    asked = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    return asked


def test_an_event_that_another_process_writes_wakes_those_who_wait(database, database_url):
    log, elsewhere = EventLog([database]), Database(database_url)
    with ThreadPoolExecutor(WAITERS) as executor:
        waiting = [executor.submit(log.read, "0", project=None, wait=30.0) for _ in range(WAITERS)]
        started = time.monotonic()
        tell(elsewhere, "models")
        for found, position in (reader.result() for reader in waiting):
            assert [item.subject for item in found] == ["models/m"]
            assert position == log.head()
    assert time.monotonic() - started < 15
    elsewhere.close()


def test_many_who_wait_look_into_the_database_as_one(database):
    """Each of them asked it twenty times a second, and an idle server used 6 % of a core."""
    log, asked = EventLog([database]), asked_of(database)
    with ThreadPoolExecutor(WAITERS) as executor:
        waiting = [executor.submit(log.read, "0", project=None, wait=1.0) for _ in range(WAITERS)]
        assert [reader.result()[0] for reader in waiting] == [[]] * WAITERS
    own = 2 * WAITERS * 6
    assert len(asked) <= own + 3 * 20


def test_other_services_events_wake_nobody(database, database_url):
    """Each stored prediction's did, and to find nothing there took a sixth of the server's time."""
    log, elsewhere = EventLog([database]), Database(database_url)
    tell(elsewhere, "models")
    after, asked = log.head(), asked_of(database)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(log.read, after, project=None, wait=30.0, sources=["models"])
        for _ in range(20):
            tell(elsewhere, "predictions")
            time.sleep(0.05)
        read = [text for text in asked if "kernel_events.subject" in text]
        tell(elsewhere, "models")
        found, position = waiting.result()
    assert ([item.source for item in found], position) == (["models"], log.head())
    # The first look may come after the first of them, and read once more.
    assert 1 <= len(read) <= 2
    elsewhere.close()


def test_an_older_database_put_in_its_place_is_told_to_who_waits(database):
    log = EventLog([database])
    tell(database, "models")
    tell(database, "models")
    after = log.head()
    assert log.read(after, project=None, wait=0.2, sources=["models"]) == ([], after)
    with database.write() as session:
        session.execute(delete(Event).where(Event.position == int(after)))
    with pytest.raises(Gone) as refused:
        log.read(after, project=None, wait=0.2, sources=["models"])
    assert refused.value.extra == {"first_position": str(int(after) - 1)}


def test_who_waits_asks_only_after_commits(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'own.db'}")
    KernelBase.metadata.create_all(database.engine)
    log, asked = EventLog([database]), asked_of(database)
    log.read(None, project=None, wait=0.1, sources=["models"])
    before = len(asked)
    log._ends(['["models"]'])
    tell(database, "models")
    ends = [log._ends(['["models"]']) for _ in range(5)]
    assert ends == [{'["models"]': {0: 1}}] * 5
    assert len([text for text in asked[before:] if text.startswith("SELECT")]) == 1
    database.close()
