"""Long work as a resource: ``queued -> running -> succeeded | failed | cancelled``.

A service's row mixes ``WorkRow`` in; clients ask for it at a ``desk``, workers move it on through
``Lifecycle``. Each write of a worker names its attempt: one that was given up (its lease ran out,
another one has taken the work) changes nothing and learns it by ``Superseded``. While a
cancel is under way the state reads ``cancelling``; a lost worker brings the work back to
``queued``. Progress stands outside the row version, hence outside the ETag.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import JSON, Boolean, Float, Integer, String, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.kernel.auth import Call
from app.kernel.changes import Change, Changes, ResourceRow
from app.kernel.sql import Database, KernelBase, UtcDateTime, utc_now

QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
ENDED = (SUCCEEDED, FAILED, CANCELLED)
STATES = (QUEUED, RUNNING, "cancelling", *ENDED)


class WorkRow(ResourceRow):
    """Mixin for a table whose rows are long work."""

    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    stored_state: Mapped[str] = mapped_column(String(16), default=QUEUED, index=True)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    progress_fraction: Mapped[float] = mapped_column(Float, default=0.0)
    progress_step: Mapped[str] = mapped_column(String(64), default=QUEUED)
    progress_message: Mapped[str] = mapped_column(String(400), default="")

    @property
    def state(self) -> str:
        """The state that a client sees."""
        if self.stored_state == RUNNING and self.cancel_requested:
            return "cancelling"
        return self.stored_state

    @property
    def about(self) -> dict[str, Any]:
        """What the events of its beginning and its deletion tell of it."""
        return {}

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.stored_state in ENDED

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is: ``fraction`` from 0 to 1, the step, a message."""
        return {
            "fraction": self.progress_fraction,
            "step": self.progress_step,
            "message": self.progress_message,
        }


class WorkEvent(KernelBase):
    """One thing that happened to a piece of work, numbered from 1."""

    __tablename__ = "kernel_work_events"

    work_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


Row = TypeVar("Row", bound=WorkRow)


Made = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The results of work that went well, as ``Lifecycle.succeed`` takes them."""


class Superseded(Exception):
    """The work has ended, or belongs to a later attempt."""


def note(session: Session, row: WorkRow, type_: str, data: Mapping[str, Any]) -> None:
    """Append to a work's events in the session's transaction; its row must be locked or new."""
    last = session.scalar(select(func.max(WorkEvent.seq)).where(WorkEvent.work_id == row.id))
    session.add(WorkEvent(work_id=row.id, seq=(last or 0) + 1, type=type_, data=dict(data)))
    session.flush()


def forget_events(session: Session, row: WorkRow) -> None:
    """Drop a work's events, in the transaction that deletes it."""
    session.execute(delete(WorkEvent).where(WorkEvent.work_id == row.id))


def events_of(database: Database, work_id: str, after: int, limit: int = 500) -> list[WorkEvent]:
    """What happened to a piece of work since an event's number."""
    query = select(WorkEvent).where(WorkEvent.work_id == work_id, WorkEvent.seq > after)
    with database.read() as session:
        return list(session.scalars(query.order_by(WorkEvent.seq).limit(limit)))


def states_of(database: Database, table: type[WorkRow]) -> dict[str, int]:
    """How many rows of a table are in each state."""
    query = select(table.stored_state, func.count()).group_by(table.stored_state)
    with database.read() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def nothing_made(_call: Call, _row: Any) -> None:
    """For work that achieves nothing before it ends."""


class Lifecycle(Generic[Row]):
    """What workers do with the work of one kind."""

    def __init__(
        self,
        database: Database,
        table: type[Row],
        *,
        service: str,
        noun: str,
        made: Callable[[Call, Row], Made | None] = nothing_made,
    ) -> None:
        """``made`` finds what an attempt made that died before it could say so."""
        self._made = made
        self._database = database
        self._changes = Changes(database, service)
        self._table = table
        self._service = service
        self._noun = noun

    def call_for(self, row: Row) -> Call:
        """The call in whose name a worker acts for a piece of work."""
        return Call(row.project, "worker", frozenset(), f"work-{row.id}", peer=self._service)

    def claim(self, work_id: str, attempt: int) -> Row | None:
        """Begin an attempt: the row, now ``running``; None when nothing is left to be done.

        Work whose cancel was asked for while its worker died ends here, and so does what an
        earlier attempt has made.
        """
        with self._database.read() as session:
            row = session.get(self._table, work_id)
        if row is None:
            return None
        made = self._made_before(row)
        with self._locked(row) as (change, current):
            if current is None or current.ended or attempt < current.attempt:
                return None
            if made is not None:
                self._succeed(change, current, *made)
                return None
            if current.cancel_requested:
                self._end(change, current, CANCELLED, {})
                return None
            current.stored_state = RUNNING
            current.attempt = attempt
            current.started_at = current.started_at or utc_now()
            note(change.session, current, RUNNING, {"attempt": attempt})
            change.record(f"{self._noun}.running", current.subject, {"attempt": attempt})
        return current

    def progress(self, row: Row, fraction: float, step: str, message: str) -> None:
        """Tell how far it is; a superseded attempt is ignored."""
        table: Any = self._table
        with self._database.write() as session:
            session.execute(
                update(table)
                .where(
                    table.id == row.id,
                    table.attempt == row.attempt,
                    table.stored_state == RUNNING,
                )
                .values(
                    progress_fraction=min(1.0, max(0.0, fraction)),
                    progress_step=step[:64],
                    progress_message=message[:400],
                    updated_at=table.updated_at,
                )
            )

    def keep(self, row: Row, **columns: Any) -> None:
        """Keep what no client sees, outside the row version; raises Superseded."""
        table: Any = self._table
        mine = (table.id == row.id, table.attempt == row.attempt, table.stored_state == RUNNING)
        with self._database.write() as session:
            kept = session.execute(
                update(table).where(*mine).values(updated_at=table.updated_at, **columns)
            )
            if getattr(kept, "rowcount", 0) != 1:
                raise Superseded(row.id)

    def step(self, row: Row, step: str, message: str) -> None:
        """Note a new step among its events; raises Superseded."""
        with self._mine(row) as (change, current):
            note(change.session, current, "progress", {"step": step, "message": message[:400]})

    def should_stop(self, row: Row) -> bool:
        """Whether a cancel was asked for, or the work is no longer this attempt's."""
        with self._database.read() as session:
            current = session.get(self._table, row.id)
        return (
            current is None
            or current.cancel_requested
            or current.attempt != row.attempt
            or current.stored_state != RUNNING
        )

    def succeed(self, row: Row, results: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """End well: ``results`` become columns of the row; raises Superseded.

        A cancel that came too late is forgotten: the result is there.
        """
        with self._mine(row) as (change, current):
            self._succeed(change, current, results, data)

    def fail(self, row: Row, code: str, detail: str, *, retryable: bool) -> None:
        """End with a reason; raises Superseded."""
        with self._mine(row) as (change, current):
            self._fail(change, current, code, detail, retryable=retryable)

    def cancelled(self, row: Row) -> None:
        """End as the client wished; raises Superseded."""
        with self._mine(row) as (change, current):
            self._end(change, current, CANCELLED, {})

    def hand_back(self, row: Row, reason: str) -> None:
        """Bring it back to the queue unfinished; raises Superseded."""
        with self._mine(row) as (change, current):
            current.stored_state = QUEUED
            note(change.session, current, QUEUED, {"reason": reason})
            change.record(f"{self._noun}.queued", current.subject, {"reason": reason})

    def give_up(self, work_id: str, code: str, detail: str) -> None:
        """End work that was tried too often; nothing when it has ended already."""
        with self._database.read() as session:
            row = session.get(self._table, work_id)
        if row is None or row.ended:
            return
        made = self._made_before(row)
        with self._locked(row) as (change, current):
            if current is None or current.ended:
                return
            if made is not None:
                self._succeed(change, current, *made)
            elif current.cancel_requested:
                self._end(change, current, CANCELLED, {})
            else:
                self._fail(change, current, code, detail, retryable=True)

    def _made_before(self, row: Row) -> Made | None:
        # Outside of any transaction: it may ask others.
        return self._made(self.call_for(row), row) if row.attempt and not row.ended else None

    def _succeed(
        self, change: Change, row: Row, results: Mapping[str, Any], data: Mapping[str, Any]
    ) -> None:
        for name, value in results.items():
            setattr(row, name, value)
        row.cancel_requested = False
        row.progress_fraction = 1.0
        row.progress_step, row.progress_message = "done", ""
        self._end(change, row, SUCCEEDED, data)

    def _fail(self, change: Change, row: Row, code: str, detail: str, *, retryable: bool) -> None:
        row.error = {"code": code, "detail": detail[:4000], "retryable": retryable}
        self._end(change, row, FAILED, {"code": code})

    def _end(self, change: Change, row: Row, state: str, data: Mapping[str, Any]) -> None:
        row.stored_state = state
        row.finished_at = utc_now()
        note(change.session, row, state, data)
        change.record(f"{self._noun}.{state}", row.subject, data)

    @contextmanager
    def _locked(self, row: Row) -> Iterator[tuple[Change, Row | None]]:
        with self._changes.begin(self.call_for(row)) as change:
            yield change, change.session.get(self._table, row.id, with_for_update=True)

    @contextmanager
    def _mine(self, row: Row) -> Iterator[tuple[Change, Row]]:
        with self._locked(row) as (change, current):
            if current is None or current.attempt != row.attempt or current.stored_state != RUNNING:
                raise Superseded(row.id)
            yield change, current
