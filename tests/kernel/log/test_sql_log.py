"""A record log in a database: its transactions, and how it drops records."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import IntegrityError

from app.kernel.errors import Unavailable
from app.kernel.log.seam import Full, NewRecord
from app.kernel.log.tables import LogPartition, LogRecord
from app.kernel.postgres import copy_in
from app.kernel.retention import BATCH
from app.kernel.sql import Database
from tests.kernel.log.engines import new_topic, numbered, read_all, values


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request):
    return request.getfixturevalue(f"{request.param}_engine")


def kept_rows(engine, topics):
    """The records of partitions, whether a topic still has them or not."""
    with engine.database.read() as session:
        query = select(func.count()).where(LogRecord.partition_id.in_(topics))
        return session.scalar(query)


def partition_ids(engine, topic):
    with engine.database.read() as session:
        return list(session.scalars(select(LogPartition.id).where(LogPartition.topic == topic)))


def append_to_both(engine, log, one, other):
    """One transaction for two topics."""
    with engine.database.write() as session:
        log.append_in(session, one, numbered([5]))
        log.append_in(session, other, numbered(range(9)))


def test_records_appended_within_a_transaction_share_its_fate(engine, log):
    topic, other, small = new_topic(log), new_topic(log), new_topic(log, max_records=1)
    with engine.database.write() as session:
        log.append_in(session, topic, numbered(range(3)))
        log.append_in(session, topic, numbered(range(3, 5)))
        log.append_in(session, other, numbered([9]))
        assert log.bounds(topic) == {0: (0, 0)}
    assert values(read_all(log, topic)) == list(range(5))
    with engine.database.write() as session:
        log.append_in(session, topic, numbered(range(5, 9)))
        session.rollback()
    with pytest.raises(Full):
        append_to_both(engine, log, topic, small)
    assert values(read_all(log, topic)) == list(range(5))
    log.append(topic, numbered([5]))
    assert values(read_all(log, topic)) == list(range(6))


def test_an_append_that_would_wait_for_its_own_transaction_is_refused(engine, log, tmp_path):
    topic, elsewhere = new_topic(log), Database(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.database.write(), pytest.raises(RuntimeError):
        log.append(topic, numbered([1]))
    with elsewhere.write() as session, pytest.raises(ValueError, match="another database"):
        log.append_in(session, topic, numbered([1]))
    elsewhere.close()
    assert log.bounds(topic) == {0: (0, 0)}


def test_small_appends_of_many_threads_share_transactions(engine, log):
    topic, commits = new_topic(log), []
    writer = engine.database._writer or engine.database.engine

    def count(connection):
        commits.append(connection)

    event.listen(writer, "commit", count)
    with ThreadPoolExecutor(16) as executor:
        list(executor.map(lambda number: log.append(topic, numbered([number])), range(200)))
    event.remove(writer, "commit", count)
    assert sorted(values(read_all(log, topic))) == list(range(200))
    assert len(commits) < 150


def test_one_refused_append_takes_no_other_with_it(engine, log):
    topic, full = new_topic(log), new_topic(log, max_records=1)
    log.append(full, numbered([0]))
    refused = []

    def append(number):
        try:
            log.append((topic, full)[number % 2], numbered([number]))
        except Full:
            refused.append(number)

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(append, range(100)))
    assert sorted(refused) == list(range(1, 100, 2))
    assert sorted(values(read_all(log, topic))) == list(range(0, 100, 2))


def test_much_that_is_too_old_goes_in_several_transactions(engine, log):
    topic, drops = new_topic(log, max_age=timedelta(hours=1)), []
    for start in range(0, 2 * BATCH + 500, 500):
        log.append(topic, numbered(range(start, start + 500)))
    engine.let_pass(timedelta(hours=1, seconds=1))
    log.append(topic, numbered([0]))
    writer = engine.database._writer or engine.database.engine

    def count(_connection, _cursor, statement, *_more):
        if statement.startswith("DELETE FROM kernel_log_records"):
            drops.append(statement)

    event.listen(writer, "before_cursor_execute", count)
    assert log.trim() >= 2 * BATCH + 500
    event.remove(writer, "before_cursor_execute", count)
    assert len(drops) >= 3
    assert log.bounds(topic) == {0: (2 * BATCH + 500, 2 * BATCH + 501)}
    assert kept_rows(engine, partition_ids(engine, topic)) == 1


def test_the_records_of_a_deleted_topic_are_dropped_by_and_by(engine, log):
    topic = new_topic(log, partitions=2)
    log.append(topic, numbered(range(2 * BATCH + 10)))
    ids = partition_ids(engine, topic)
    log.delete(topic)
    assert kept_rows(engine, ids) == 2 * BATCH + 10
    assert log.trim() >= 2 * BATCH + 10
    assert kept_rows(engine, ids) == 0
    with engine.database.read() as session:
        assert not session.scalar(select(func.count()).where(LogPartition.id.in_(ids)))


def test_many_who_wait_look_into_the_database_as_one(engine, log):
    topics, asked = [new_topic(log) for _ in range(8)], []

    def count(*told):
        asked.append(told[2])

    event.listen(engine.database.engine, "before_cursor_execute", count)
    with ThreadPoolExecutor(len(topics)) as executor:
        list(executor.map(lambda topic: log.wait(topic, {0: 0}, 1.0), topics))
    event.remove(engine.database.engine, "before_cursor_execute", count)
    assert 2 <= len(asked) <= 60


def test_those_who_wait_outlive_a_look_that_fails(engine, log, monkeypatch):
    topic, failed = new_topic(log), threading.Event()
    look = log._watch._look_for

    def fail_once(topics):
        if not failed.is_set():
            failed.set()
            raise Unavailable("The database is busy")
        return look(topics)

    monkeypatch.setattr(log._watch, "_look_for", fail_once)
    with pytest.raises(Unavailable):
        log.wait(topic, {0: 0}, 10.0)
    log.append(topic, [NewRecord(b"")])
    log.wait(topic, {0: 0}, 10.0)


def test_a_row_that_is_there_is_refused_by_a_copy_as_by_an_insert(postgresql_engine):
    """An error of a copy was none of SQLAlchemy's: a full disk would have been a 500."""
    log = postgresql_engine.open()
    topic = new_topic(log)
    table, (mine,) = LogPartition.__table__, partition_ids(postgresql_engine, topic)
    rows = [{"id": mine, "topic": topic, "number": 0, "first": 0, "end": 0, "bytes": 0}]
    with pytest.raises(IntegrityError), postgresql_engine.database.write() as session:
        copy_in(session, table, rows)
    log.close()
