"""The outbox: every change leaves an event, written in the change's own transaction.

An event is a CloudEvent. Its position is the order of the commits, without gaps that could fill
later: a writer takes a lock before it draws a position and holds it until it commits, so a reader
that has seen position n will never find n-1 afterwards.

Old events are dropped, always from the front. How far is remembered, so that a reader who comes too
late is told, and misses nothing without knowing.
"""

import json
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from heapq import merge
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Integer,
    String,
    bindparam,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.kernel.errors import Gone, Invalid
from app.kernel.last_look import LastLook
from app.kernel.log.watch import Ends, Watch
from app.kernel.retention import BATCH, PAUSE_SECONDS
from app.kernel.sql import Database, KernelBase, UtcDateTime, new_id, utc_now

_BIG = BigInteger().with_variant(Integer, "sqlite")
_LOOK_SECONDS = 0.1


class Event(KernelBase):
    """One thing that happened, kept in the order of the commits."""

    __tablename__ = "kernel_events"

    position: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), default=new_id)
    source: Mapped[str] = mapped_column(String(32))
    project: Mapped[str] = mapped_column(String(63))
    type: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(400))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    request_id: Mapped[str] = mapped_column(String(128))
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    __table_args__ = ({"sqlite_autoincrement": True},)


_HEAD = select(func.max(Event.position))


class EventsDropped(KernelBase):
    """The position up to which events have been dropped: one row, or none before the first time."""

    __tablename__ = "kernel_events_dropped"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(_BIG)


def append(session: Session, event: Event) -> None:
    """Write an event in the session's transaction, in commit order."""
    hold_order(session)
    session.add(event)


def hold_order(session: Session) -> None:
    """Take the lock under which positions are drawn, until the transaction ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('kernel_events', 0))"))


class EventLog:
    """The outboxes of one or several databases, read as one by position.

    A position is text: a number where there is one database, else numbers joined by dots, one for
    each database in the order of ``databases``. A client hands it back as it came.
    """

    def __init__(self, databases: Sequence[Database]) -> None:
        self._databases = list(dict.fromkeys(databases))
        self._newest: dict[str, list[_Newest]] = {}
        self._watch = Watch(self._ends, _LOOK_SECONDS)

    def read(
        self,
        after: str | None,
        *,
        project: str | None,
        limit: int = 100,
        wait: float = 0.0,
        sources: Collection[str] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> tuple[list[Event], str]:
        """Events after a position and the position to go on from; waits up to ``wait`` seconds.

        ``project=None`` reads all projects (peers only), ``sources=None`` all services. Without a
        position it begins with the first event that is kept. Raises Invalid for what is no
        position, Gone for one after which events have been dropped, or that this log has not come
        to.
        """
        seen = self._parse(after)
        until = time.monotonic() + wait
        wanted = json.dumps(None if sources is None else sorted(sources))
        while True:
            found, positions = self._read_once(seen, project, sources, limit)
            if after:
                # After the reading: what is dropped meanwhile is noticed, too.
                self._refuse_dropped(seen)
            if found or time.monotonic() >= until or stopped():
                return found, ".".join(map(str, positions))
            seen = positions
            self._watch.wait(wanted, dict(enumerate(seen)), until, stopped)

    def _ends(self, waited_for: Sequence[str]) -> Ends:
        self._newest = {
            wanted: self._newest.get(wanted)
            or [_Newest(database, json.loads(wanted)) for database in self._databases]
            for wanted in waited_for
        }
        return {
            wanted: dict(enumerate(one.look() for one in newest))
            for wanted, newest in self._newest.items()
        }

    def head(self) -> str:
        """The position after everything written so far."""
        return ".".join(str(_head(database)) for database in self._databases)

    def forget(self, before: datetime) -> int:
        """Drop events older than a time; the count of them. The newest one always stays."""
        return sum(_drop(database, before) for database in self._databases)

    def _parse(self, after: str | None) -> list[int]:
        if not after:
            return [0] * len(self._databases)
        parts = after.split(".")
        if len(parts) != len(self._databases) or not all(
            part.isascii() and part.isdigit() and len(part) <= 18 for part in parts
        ):
            raise Invalid.at("?after", "invalid_position", "Not a position of this log")
        return [int(part) for part in parts]

    def _refuse_dropped(self, seen: list[int]) -> None:
        """Raise Gone where the events after a position are not, or not all, those of this log."""
        edges = [_edges(database) for database in self._databases]
        pairs = list(zip(seen, edges, strict=True))
        if all(dropped <= position <= head for position, (dropped, head) in pairs):
            return
        kept = [min(max(position, dropped), head) for position, (dropped, head) in pairs]
        raise Gone(
            "Events after this position are no longer kept: read the state of what you follow"
            " anew, then go on after `first_position`",
            extra={"first_position": ".".join(map(str, kept))},
        )

    def _read_once(
        self, seen: list[int], project: str | None, sources: Collection[str] | None, limit: int
    ) -> tuple[list[Event], list[int]]:
        batches = [
            _after(database, position, project, sources, limit)
            for database, position in zip(self._databases, seen, strict=True)
        ]
        # merge() takes from the fronts only: each database's own order stands, whatever its clock.
        merged = list(
            merge(
                *([(event, i) for event in events] for i, (events, _) in enumerate(batches)),
                key=lambda pair: pair[0].time,
            )
        )
        if len(merged) <= limit:
            return [event for event, _ in merged], [end for _, end in batches]
        positions = list(seen)
        for event, index in merged[:limit]:
            positions[index] = event.position
        return [event for event, _ in merged[:limit]], positions


class _Newest:
    """The position of the newest event of some services, looked for among the new ones alone.

    Whoever waits for a rare one isn't woken by many others'. What there was at first counts as
    theirs.
    """

    def __init__(self, database: Database, sources: Collection[str] | None) -> None:
        newest = select(func.max(Event.position)).where(Event.position > bindparam("passed"))
        if sources is not None:
            newest = newest.where(Event.source.in_(sources))
        self._query = select(newest.scalar_subquery(), _HEAD.scalar_subquery())
        self._database = database
        self._passed = self._newest = _head(database)
        self.look = LastLook(database, self._ask).look

    def _ask(self) -> int:
        with self._database.read() as session:
            newest, head = session.execute(self._query, {"passed": self._passed}).one()
        self._passed = head or 0
        # An older database may have been put in its place.
        self._newest = newest or min(self._newest, self._passed)
        return self._newest


def _head(database: Database) -> int:
    with database.read() as session:
        return session.scalar(_HEAD) or 0


def _edges(database: Database) -> tuple[int, int]:
    """Up to where events have been dropped, and the newest position.

    Nobody has been told of one beyond it, unless the database was an older one again since.
    """
    with database.read() as session:
        dropped = session.scalar(select(EventsDropped.position)) or 0
        return dropped, session.scalar(_HEAD) or 0


def _drop(database: Database, before: datetime) -> int:
    """Drop from the front all that is older, a batch in each transaction."""
    dropped = 0
    while some := _drop_some(database, before):
        dropped += some
        time.sleep(PAUSE_SECONDS)
    return dropped


def _drop_some(database: Database, before: datetime) -> int:
    """Drop a batch, in the transaction that remembers how far."""
    query = select(Event.position, Event.time).order_by(Event.position).limit(BATCH + 1)
    with database.exclusive("events-dropped") as session:
        # The last one read is the newest one, or the first of the next batch.
        front = session.execute(query).all()[:-1]
        old = [position for position, _ in takewhile(lambda row: row.time < before, front)]
        if old:
            session.execute(delete(Event).where(Event.position <= old[-1]))
            session.merge(EventsDropped(id=1, position=old[-1]))
    return len(old)


def _after(
    database: Database,
    position: int,
    project: str | None,
    sources: Collection[str] | None,
    limit: int,
) -> tuple[list[Event], int]:
    """A database's next events, and how far the look went (past others' events, too)."""
    query = select(Event).where(Event.position > position).order_by(Event.position).limit(limit)
    if project is not None:
        query = query.where(Event.project == project)
    if sources is not None:
        query = query.where(Event.source.in_(sources))
    with database.read() as session:
        head = session.scalar(_HEAD) or 0
        events = list(session.scalars(query))
    if len(events) == limit:
        return events, events[-1].position
    return events, max([position, head, *(event.position for event in events)])


def cloud_event(event: Event) -> dict[str, Any]:
    """An event in the form of CloudEvents 1.0 (JSON)."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/{event.source}",
        "type": f"modelyard.{event.type}",
        "subject": event.subject,
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": event.data,
        "project": event.project,
        "requestid": event.request_id,
    }
