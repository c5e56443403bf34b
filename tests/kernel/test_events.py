"""Waiting for events: many wait at the price of one, and hear of what other processes write."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event

from app.kernel.changes import Changes
from app.kernel.events import EventLog
from app.kernel.sql import Database, KernelBase
from tests.yard import Yard

WAITERS = 8


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    KernelBase.metadata.create_all(made.engine)
    yield made
    made.close()


def test_an_event_that_another_process_writes_wakes_those_who_wait(database, database_url):
    log, elsewhere = EventLog([database]), Database(database_url)
    call = Yard.call(None)
    with ThreadPoolExecutor(WAITERS) as executor:
        waiting = [executor.submit(log.read, "0", project=None, wait=30.0) for _ in range(WAITERS)]
        started = time.monotonic()
        with Changes(elsewhere, "models").begin(call) as change:
            change.record("model.created", "models/m", {"model": "m"})
        for found, position in (reader.result() for reader in waiting):
            assert [item.subject for item in found] == ["models/m"]
            assert position == log.head()
    assert time.monotonic() - started < 15
    elsewhere.close()


def test_many_who_wait_look_into_the_database_as_one(database):
    """Each of them asked it twenty times a second, and an idle server used 6 % of a core."""
    log, asked = EventLog([database]), []
    event.listen(database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    with ThreadPoolExecutor(WAITERS) as executor:
        waiting = [executor.submit(log.read, "0", project=None, wait=1.0) for _ in range(WAITERS)]
        assert [reader.result()[0] for reader in waiting] == [[]] * WAITERS
    own = 2 * WAITERS * 6
    assert len(asked) <= own + 3 * 20
