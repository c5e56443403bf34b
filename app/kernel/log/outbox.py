"""Records on their way from a transaction to a log that is elsewhere.

They are rows of the caller's own transaction, and move on in the order of their ids once it has
committed: appended first, dropped after. A row that was appended by somebody who died before
dropping it is appended again and found to be there: each has an id, and the log keeps an id once
for as long as it keeps the record. So a relay may come as late as retention lets it.

One relay at a time has the lease; two would only do one another's work.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import (
    BigInteger,
    Integer,
    LargeBinary,
    String,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.kernel.errors import Invalid, NotFound, ServiceError, TooLarge
from app.kernel.log.seam import Full, NewRecord
from app.kernel.log.tables import microseconds, moment_of
from app.kernel.sql import Database, KernelBase, UtcDateTime, lease_holds, new_id

MOST_WAITING: Final = 10_000
"""So many records of a topic may wait in an outbox: then its log is full, or away for long."""
MOST_BYTES: Final = 1_000_000
GONE_SECONDS: Final = 60.0
"""After so long without its topic a record is dropped: servers that start may not know all yet."""
_AT_ONCE = 500
_LEASE = timedelta(seconds=5)
_IDLE_SECONDS, _AWAY_SECONDS = 0.1, 1.0
_FULL_SECONDS = 2.0
_STOP_SECONDS = 2.0
_BIG = BigInteger().with_variant(Integer, "sqlite")
log = structlog.get_logger("outbox")


class LogOutbox(KernelBase):
    """A record that waits to be appended."""

    __tablename__ = "kernel_log_outbox"

    number: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(64), index=True)
    partition: Mapped[int | None]
    id: Mapped[str] = mapped_column(String(255))
    timestamp: Mapped[int] = mapped_column(_BIG)
    key: Mapped[bytes | None] = mapped_column(LargeBinary)
    value: Mapped[bytes] = mapped_column(LargeBinary)
    headers: Mapped[str | None] = mapped_column(Text)

    __table_args__ = ({"sqlite_autoincrement": True},)

    @property
    def record(self) -> NewRecord:
        """The record that waits."""
        return NewRecord(
            value=self.value,
            key=self.key,
            headers=json.loads(self.headers) if self.headers else {},
            id=self.id,
            partition=self.partition,
            timestamp=moment_of(self.timestamp),
        )


class LogRelay(KernelBase):
    """Who relays at present: one row."""

    __tablename__ = "kernel_log_relays"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(36))
    lease_until: Mapped[datetime] = mapped_column(UtcDateTime)


class Outbox:
    """Takes records in transactions, and relays them in a thread once started."""

    def __init__(
        self,
        database: Database,
        append: Callable[[str, Sequence[NewRecord]], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._append = append
        self._clock = clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._relays_in: int | None = None

    def put(self, session: Session, topic: str, records: Sequence[NewRecord]) -> None:
        """Let records wait; raises Full where too many do, TooLarge for one that is too large."""
        if session.get_bind().engine.url != self._database.url:
            raise ValueError("the session belongs to another database than the outbox")
        if any(record.size > MOST_BYTES for record in records):
            raise TooLarge(f"A record may have {MOST_BYTES} bytes with all that it tells")
        waiting = select(LogOutbox.number).where(LogOutbox.topic == topic).limit(MOST_WAITING)
        count = session.scalar(select(func.count()).select_from(waiting.subquery())) or 0
        if count + len(records) > MOST_WAITING:
            raise Full("Too many records wait for the log", retry_after=_FULL_SECONDS)
        now = self._clock()
        rows = [
            {
                "topic": topic,
                "partition": record.partition,
                "id": record.id or new_id(),
                "timestamp": microseconds(record.timestamp or now),
                "key": record.key,
                "value": record.value,
                "headers": json.dumps(dict(record.headers)) if record.headers else None,
            }
            for record in records
        ]
        if rows:
            session.connection().execute(insert(LogOutbox), rows)
            # It finds them when the transaction has committed.
            self.start()

    def start(self) -> None:
        """Relay from now on, in a thread of this process."""
        with self._lock:
            if self._relays_in == os.getpid() and not self._stopped.is_set():
                return
            self._relays_in, self._stopped = os.getpid(), threading.Event()
            relay = _Relay(self._database, self._append, self._clock, self._stopped)
            self._thread = threading.Thread(target=relay.run, daemon=True, name="log-relay")
            self._thread.start()

    def stop(self) -> None:
        """Relay no more: another may."""
        self._stopped.set()
        if self._thread is not None and self._relays_in == os.getpid():
            self._thread.join(_STOP_SECONDS)


class _Relay:
    def __init__(
        self,
        database: Database,
        append: Callable[[str, Sequence[NewRecord]], object],
        clock: Callable[[], datetime],
        stopped: threading.Event,
    ) -> None:
        self._database = database
        self._append = append
        self._clock = clock
        self._stopped = stopped
        self._name = new_id()
        self._renew_at: datetime | None = None
        self._gone_since: dict[str, float] = {}

    def run(self) -> None:
        while not self._stopped.wait(self._pass()):
            pass
        if self._renew_at is not None:
            self._give_lease_back()

    def _pass(self) -> float:
        """Relay what waits; how long to wait for more, in seconds."""
        try:
            with self._database.read() as session:
                topics = list(session.scalars(select(LogOutbox.topic).distinct()))
            if not topics:
                return _IDLE_SECONDS
            if not self._take_lease():
                return _AWAY_SECONDS
            # All of them, whatever becomes of one.
            waits = [self._relay(topic) for topic in topics]
        except ServiceError as error:
            log.warning("relay_failed", error=error.detail)
            return _AWAY_SECONDS
        return min(waits)

    def _take_lease(self) -> bool:
        now = self._clock()
        if self._renew_at is not None and self._renew_at - _LEASE < now < self._renew_at:
            return True
        with self._database.exclusive("log-relay") as session:
            row = session.get(LogRelay, 1)
            if row is None:
                row = LogRelay(id=1)
                session.add(row)
            elif row.holder != self._name and lease_holds(row.lease_until, _LEASE, now):
                self._renew_at = None
                return False
            row.holder, row.lease_until = self._name, now + _LEASE
        self._renew_at = now + _LEASE / 2
        return True

    def _give_lease_back(self) -> None:
        mine = update(LogRelay).where(LogRelay.holder == self._name)
        try:
            with self._database.write() as session:
                session.execute(mine.values(lease_until=self._clock()))
        except ServiceError:
            # It ends by itself.
            return

    def _relay(self, topic: str) -> float:
        """Append the first rows of a topic and drop them; how long to wait for the next."""
        query = select(LogOutbox).where(LogOutbox.topic == topic).order_by(LogOutbox.number)
        with self._database.read() as session:
            rows = list(session.scalars(query.limit(_AT_ONCE)))
        try:
            self._append_all(topic, rows)
        except Full:
            return _AWAY_SECONDS
        except ServiceError as error:
            log.warning("relay_failed", topic=topic, error=error.detail)
            return _AWAY_SECONDS
        with self._database.write() as session:
            numbers = [row.number for row in rows]
            session.execute(delete(LogOutbox).where(LogOutbox.number.in_(numbers)))
        return 0.0

    def _append_all(self, topic: str, rows: Sequence[LogOutbox]) -> None:
        """Append records, but for those that never can be: they would stop all after them."""
        try:
            self._append(topic, [row.record for row in rows])
        except (Invalid, TooLarge) as error:
            if len(rows) == 1:
                _tell_dropped(topic, rows, error)
                return
            for row in rows:
                self._append_all(topic, [row])
        except NotFound as error:
            since = self._gone_since.setdefault(topic, time.monotonic())
            if time.monotonic() < since + GONE_SECONDS:
                raise
            _tell_dropped(topic, rows, error)
        else:
            self._gone_since.pop(topic, None)


def _tell_dropped(topic: str, rows: Sequence[LogOutbox], error: ServiceError) -> None:
    log.warning("records_dropped", topic=topic, count=len(rows), error=error.detail)
