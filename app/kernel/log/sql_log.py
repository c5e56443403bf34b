"""A record log in a database, SQLite or Postgres.

Whoever appends to a partition holds the lock of its head until the commit, so offsets become
visible in their order and without a gap: a reader that has seen one never finds an earlier one
afterwards. Small appends of several threads share a transaction, for each waits for the disk.
"""

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from app.kernel.errors import Conflict
from app.kernel.group_commit import GroupCommit
from app.kernel.log.seam import (
    MOST_BYTES_READ,
    Appended,
    NewRecord,
    OffsetGone,
    Placing,
    Record,
    Shape,
    refuse_inside,
    refuse_other_partitions,
)
from app.kernel.log.sql_partition import Partition, locked_heads, topic_row
from app.kernel.log.tables import LogPartition, LogRecord, LogTopic, moment_of
from app.kernel.log.watch import Watch
from app.kernel.retention import BATCH, PAUSE_SECONDS
from app.kernel.sql import Database, utc_now

_SMALL = 50
"""Appends of so many records at most are written together with others: none waits for long."""
_NO_HEADERS: Mapping[str, str] = {}


@dataclass
class _Batch:
    topic: str
    records: Sequence[NewRecord]
    told: Sequence[Appended] = ()


class SqlLog:
    """Topics in a database; an append is kept as a whole or not at all."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._placing = Placing()
        self._group = GroupCommit(self._write_together)
        self._watch = Watch(self._ends)

    def create(self, topic: str, shape: Shape) -> None:
        """Make a topic; the same again changes nothing. Raises Conflict for another shape."""
        with self._database.exclusive("log-topics") as session:
            known = session.get(LogTopic, topic)
            if known is not None and known.shape != shape:
                raise Conflict("There is a topic of this name and of another shape")
            if known is None:
                made = LogTopic(name=topic)
                made.become(shape)
                session.add(made)
                numbers = range(shape.partitions)
                session.add_all(LogPartition(topic=topic, number=number) for number in numbers)

    def change(self, topic: str, shape: Shape) -> None:
        """Give a topic other bounds. Raises Conflict for another number of partitions."""
        with self._database.exclusive("log-topics") as session:
            row = topic_row(session, topic)
            refuse_other_partitions(row.shape, shape)
            row.become(shape)

    def delete(self, topic: str) -> None:
        """Forget a topic at once; ``trim`` drops its records by and by."""
        with self._database.exclusive("log-topics") as session:
            found = session.get(LogTopic, topic)
            if found is not None:
                session.delete(found)
            heads = update(LogPartition).where(LogPartition.topic == topic)
            session.execute(heads.values(topic=None))

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Appended]:
        """Append all or nothing, durably and in order; see the seam."""
        refuse_inside()
        batch = _Batch(topic, records)
        if len(records) <= _SMALL:
            self._group.put(batch)
        else:
            self._write_together([batch])
        return list(batch.told)

    def append_in(self, session: Session, topic: str, records: Sequence[NewRecord]) -> None:
        """Append in the caller's transaction, which must be one of the log's own database."""
        if session.get_bind().engine.url != self._database.url:
            raise ValueError("the session belongs to another database than the log")
        self._write(session, topic, records)

    def _write_together(self, batches: Sequence[_Batch]) -> None:
        with self._database.write() as session:
            # In one order, so that two processes don't wait for one another.
            for batch in sorted(batches, key=lambda batch: batch.topic):
                batch.told = self._write(session, batch.topic, batch.records)

    def _write(
        self, session: Session, topic: str, records: Sequence[NewRecord]
    ) -> Sequence[Appended]:
        shape = topic_row(session, topic).shape
        placed = self._placing.place(records, shape.partitions)
        told: dict[int, Appended] = {}
        for head in locked_heads(session, topic, list(placed)):
            places = placed[head.number]
            partition = Partition(session, head, shape, self._clock())
            appended = partition.append([records[place] for place in places])
            told |= zip(places, appended, strict=True)
        return [told[place] for place in range(len(records))]

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """The records from an offset on; see the seam."""
        with self._database.read() as session:
            head = self._head(session, topic, partition)
            if offset < head.first:
                raise OffsetGone(head.first)
            found = _found(session, head.id, offset, limit)
        if found and found[0].offset != offset:
            # On Postgres they may have been dropped since the head was read.
            raise OffsetGone(found[0].offset)
        return [_record(partition, row) for row in found]

    def _head(self, session: Session, topic: str, partition: int) -> LogPartition:
        query = select(LogPartition).where(LogPartition.topic == topic)
        head = session.scalar(query.where(LogPartition.number == partition))
        if head is None:
            # Which of the two it is, the placing of a record knows as well.
            shape = topic_row(session, topic).shape
            self._placing.place([NewRecord(b"", partition=partition)], shape.partitions)
            raise OffsetGone(0)
        return head

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset that is kept and the one that comes next."""
        with self._database.read() as session:
            topic_row(session, topic)
            query = select(LogPartition.number, LogPartition.first, LogPartition.end)
            rows = session.execute(
                query.where(LogPartition.topic == topic).order_by(LogPartition.number)
            )
            return {number: (first, end) for number, first, end in rows}

    def wait(
        self,
        topic: str,
        positions: Mapping[int, int],
        timeout: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Until there is something to read, or nothing may ever come, or the time is over."""
        self._watch.wait(topic, positions, time.monotonic() + timeout, stopped)

    def _ends(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        query = select(LogPartition.topic, LogPartition.number, LogPartition.end)
        found: dict[str, dict[int, int]] = {}
        with self._database.read() as session:
            for topic, number, end in session.execute(query.where(LogPartition.topic.in_(topics))):
                found.setdefault(str(topic), {})[number] = end
        return found

    def trim(self) -> int:
        """Drop what retention lets go and what deleted topics left, a batch a transaction."""
        query = (
            select(LogPartition.id)
            .outerjoin(LogTopic, LogTopic.name == LogPartition.topic)
            .where(
                LogPartition.topic.is_(None)
                | LogTopic.max_age.is_not(None)
                | (LogTopic.overflow == "drop_oldest")
            )
        )
        with self._database.read() as session:
            partitions = list(session.scalars(query))
        return sum(self._trim_partition(partition) for partition in partitions)

    def _trim_partition(self, partition: int) -> int:
        dropped = 0
        while some := self._trim_some(partition):
            dropped += some
            time.sleep(PAUSE_SECONDS)
        return dropped

    def _trim_some(self, partition: int) -> int:
        with self._database.write() as session:
            head = session.get(LogPartition, partition, with_for_update=True)
            if head is None:
                return 0
            if head.topic is None:
                return Partition(session, head, Shape(1), self._clock()).sweep(BATCH)
            shape = topic_row(session, head.topic).shape
            return Partition(session, head, shape, self._clock()).drop(BATCH)

    def ping(self) -> None:
        """Raises Unavailable when the database doesn't answer."""
        self._database.ping()

    def close(self) -> None:
        """Its database is its owner's to close."""


def _found(session: Session, partition: int, offset: int, limit: int) -> Sequence[Row[Any]]:
    """The records from an offset on, as many as may be read at once."""
    mine = (LogRecord.partition_id == partition) & (LogRecord.offset >= offset)
    sizes = select(LogRecord.size).where(mine).order_by(LogRecord.offset).limit(limit)
    upto = list(accumulate(session.scalars(sizes)))
    count = max(bisect_right(upto, MOST_BYTES_READ), 1)
    query = select(*LogRecord.__table__.c).where(mine).order_by(LogRecord.offset).limit(count)
    return session.execute(query).all()


def _record(partition: int, row: Row[Any]) -> Record:
    return Record(
        partition=partition,
        offset=row.offset,
        timestamp=moment_of(row.timestamp),
        key=row.key,
        value=row.value,
        headers=_NO_HEADERS if row.headers is None else json.loads(row.headers),
        id=row.id,
    )
