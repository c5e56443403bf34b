"""One partition of a record log in a database, within a transaction that holds its head's lock."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.kernel.errors import NotFound, TooLarge
from app.kernel.log.seam import Appended, Full, NewRecord, Shape
from app.kernel.log.tables import LogPartition, LogRecord, LogTopic, microseconds
from app.kernel.retention import BATCH

_FULL_SECONDS = 2.0
_IDS_AT_ONCE = 1000
_MANY = 20


def topic_row(session: Session, topic: str) -> LogTopic:
    """A topic; raises NotFound."""
    found = session.get(LogTopic, topic)
    if found is None:
        raise NotFound("No such topic")
    return found


def locked_heads(session: Session, topic: str, numbers: Sequence[int]) -> list[LogPartition]:
    """The heads of partitions, locked in their order until the transaction ends."""
    query = (
        select(LogPartition)
        .where(LogPartition.topic == topic, LogPartition.number.in_(numbers))
        .order_by(LogPartition.number)
        .with_for_update()
        # Whoever waited for the lock sees what was appended meanwhile.
        .execution_options(populate_existing=True)
    )
    found = list(session.scalars(query))
    if len(found) < len(numbers):
        raise NotFound("No such topic")
    return found


class Partition:
    """A partition that this transaction may append to and drop from."""

    def __init__(self, session: Session, head: LogPartition, shape: Shape, now: datetime) -> None:
        self._session = session
        self._head = head
        self._shape = shape
        self._now = now

    def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        """Append what isn't there yet; raises Full, TooLarge."""
        known = self._offsets_of({record.id for record in records if record.id is not None})
        told: list[Appended] = []
        rows: list[dict[str, Any]] = []
        for record in records:
            offset = known.get(record.id) if record.id is not None else None
            duplicate = offset is not None
            if offset is None:
                offset = self._head.end + len(rows)
                rows.append(self._row(record, offset))
                if record.id is not None:
                    known[record.id] = offset
            told.append(Appended(self._head.number, offset, duplicate))
        if rows:
            self._insert(rows)
        return told

    def _offsets_of(self, ids: set[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        remaining = iter(ids)
        while some := list(islice(remaining, _IDS_AT_ONCE)):
            query = select(LogRecord.id, LogRecord.offset).where(
                LogRecord.partition_id == self._head.id, LogRecord.id.in_(some)
            )
            found |= {str(known): offset for known, offset in self._session.execute(query)}
        return found

    def _row(self, record: NewRecord, offset: int) -> dict[str, Any]:
        if self._shape.max_bytes is not None and record.size > self._shape.max_bytes:
            raise TooLarge("A record is larger than all that a partition may keep")
        now = microseconds(self._now)
        return {
            "partition_id": self._head.id,
            "offset": offset,
            "id": record.id,
            "timestamp": now if record.timestamp is None else microseconds(record.timestamp),
            "appended_at": now,
            "size": record.size,
            "key": record.key,
            "value": record.value,
            "headers": json.dumps(dict(record.headers)) if record.headers else None,
        }

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        count, size = len(rows), sum(row["size"] for row in rows)
        if self._shape.overflow == "reject":
            self._make_room(count, size)
        _add(self._session, rows)
        self._head.end += count
        self._head.bytes += size
        if self._shape.overflow == "drop_oldest":
            # As many as came, and a batch of those that were too many before.
            self.drop(count + BATCH)

    def _make_room(self, count: int, size: int) -> None:
        """Drop what is too old anyway where the partition is full; raises Full."""
        if self._exceeds(count, size) and self._shape.max_age is not None:
            self.drop(BATCH)
        if self._exceeds(count, size):
            raise Full(
                f"Partition {self._head.number} is full: nothing of this call was appended",
                retry_after=_FULL_SECONDS,
                extra={"partition": self._head.number},
            )

    def _exceeds(self, count: int, size: int) -> bool:
        """Whether there would be too many if so many were added."""
        most, most_bytes = self._shape.max_records, self._shape.max_bytes
        kept = self._head.end - self._head.first
        return (most is not None and kept + count > most) or (
            most_bytes is not None and self._head.bytes + size > most_bytes
        )

    def drop(self, limit: int) -> int:
        """Drop from the front what retention lets go, at most ``limit`` records; their count."""
        if not self._may_exceed():
            return 0
        count = 0
        for size in islice(self._surplus(limit), limit):
            self._head.first += 1
            self._head.bytes -= size
            count += 1
        if count:
            self._delete_before(self._head.first)
        return count

    def _may_exceed(self) -> bool:
        by_bound = self._shape.overflow == "drop_oldest" and self._exceeds(0, 0)
        return by_bound or self._shape.max_age is not None

    def _surplus(self, limit: int) -> Iterator[int]:
        """The sizes of the records at the front that are too old or too many."""
        query = (
            select(LogRecord.appended_at, LogRecord.size)
            .where(LogRecord.partition_id == self._head.id)
            .order_by(LogRecord.offset)
            .limit(limit)
        )
        age = self._shape.max_age
        before = None if age is None else microseconds(self._now - age)
        for appended_at, size in self._session.execute(query).all():
            too_old = before is not None and appended_at < before
            if not too_old and not (self._shape.overflow == "drop_oldest" and self._exceeds(0, 0)):
                return
            yield size

    def sweep(self, limit: int) -> int:
        """Drop records of a partition whose topic was deleted, its head after the last of them."""
        some = (
            select(LogRecord.offset)
            .where(LogRecord.partition_id == self._head.id)
            .order_by(LogRecord.offset)
            .limit(limit)
        )
        offsets = list(self._session.scalars(some))
        if offsets:
            self._delete_before(offsets[-1] + 1)
        else:
            self._session.delete(self._head)
        return len(offsets)

    def _delete_before(self, offset: int) -> None:
        mine = LogRecord.partition_id == self._head.id
        self._session.execute(
            delete(LogRecord).where(mine, LogRecord.offset < offset),
            execution_options={"synchronize_session": False},
        )


def _add(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    if len(rows) >= _MANY and session.get_bind().dialect.name == "postgresql":
        from app.kernel.postgres import copy_in  # noqa: PLC0415 - an extra

        copy_in(session, LogRecord.metadata.tables[LogRecord.__tablename__], rows)
    else:
        session.connection().execute(insert(LogRecord), rows)
