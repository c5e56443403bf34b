"""Jobs: work that was accepted and must be done, once, by some worker.

A job is one row of ``kernel_jobs`` in the service's own database and carries only a reference
(the id of a run): it is enqueued in the transaction that writes the run, so either both are there
or neither. In order: ``queued``; a worker claims it (``running``) under a lease that it keeps
renewing; it ends as ``done``, ``failed`` or ``cancelled``. When a worker dies or hangs, its lease
runs out (jobs/leases.py) and any other worker claims the job again.

``attempt`` counts the claims and is the fencing token: it never goes down, and whatever a worker
writes on behalf of a job must compare it. Claims that a worker handed back unfinished are also
counted in ``excused`` and use up none of ``max_attempts``.

The other half, which claims and runs jobs, is jobs/worker.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.kernel.retention import drop
from app.kernel.sql import Database, KernelBase, UtcDateTime, new_id, utc_now
from app.kernel.tracing import tracer
from app.kernel.tracing.contexts import LONGEST_STATE, Trace, sound_trace

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
LONGEST_DELAY = timedelta(minutes=5)
"""What a job may wait before it starts."""
_IS_QUEUED = text("state = 'queued'")
_IS_RUNNING = text("state = 'running'")
_IS_UNFINISHED = text("finished_at IS NULL")


@dataclass(frozen=True)
class Clock:
    """The time, and a time that only goes forward; tests have their own."""

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_CLOCK = Clock()


class JobRow(KernelBase):
    """One job; ``priority`` 1 goes before 9, and older jobs before newer ones of the same."""

    __tablename__ = "kernel_jobs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    ref: Mapped[str] = mapped_column(String(64))
    project: Mapped[str] = mapped_column(String(63))
    priority: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(String(9))
    attempt: Mapped[int] = mapped_column(Integer)
    excused: Mapped[int] = mapped_column(Integer)
    max_attempts: Mapped[int] = mapped_column(Integer)
    enqueued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker_id: Mapped[str | None] = mapped_column(String(36))
    beats: Mapped[int] = mapped_column(Integer)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    error: Mapped[str | None] = mapped_column(Text)
    traceparent: Mapped[str | None] = mapped_column(String(55))
    tracestate: Mapped[str | None] = mapped_column(String(LONGEST_STATE))

    __table_args__ = (
        Index(
            "ix_kernel_jobs_queued",
            *("kind", "priority", "id"),
            sqlite_where=_IS_QUEUED,
            postgresql_where=_IS_QUEUED,
        ),
        Index(
            "ix_kernel_jobs_running",
            "kind",
            sqlite_where=_IS_RUNNING,
            postgresql_where=_IS_RUNNING,
        ),
        Index(
            "uq_kernel_jobs_unfinished",
            *("kind", "ref"),
            unique=True,
            sqlite_where=_IS_UNFINISHED,
            postgresql_where=_IS_UNFINISHED,
        ),
    )

    @property
    def trace(self) -> Trace | None:
        """What it is done for."""
        return sound_trace(self.traceparent, self.tracestate)


class JobQueue:
    """The jobs of one database, as the services see them."""

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK) -> None:
        self.database = database
        self.clock = clock

    def enqueue(
        self,
        session: Session,
        kind: str,
        ref: str,
        *,
        project: str,
        priority: int = 5,
        not_before: datetime | None = None,
        max_attempts: int = 3,
        trace: Trace | None = None,
    ) -> bool:
        """Add a job in the caller's transaction; never commits.

        False, and nothing changes, while an unfinished job has the same kind and reference. Raises
        ValueError when it is to start later than LONGEST_DELAY from now. What is done for the job
        is beneath the span around this call, else beneath ``trace``.
        """
        if not_before is not None and not_before > self.clock.now() + LONGEST_DELAY:
            raise ValueError(f"a job may wait {LONGEST_DELAY} at most")
        beneath = tracer.carried(trace)
        insert = (sqlite if self.database.dialect == "sqlite" else postgresql).insert(JobRow)
        row = {
            "id": new_id(),
            "kind": kind,
            "ref": ref,
            "project": project,
            "priority": priority,
            "state": QUEUED,
            "attempt": 0,
            "excused": 0,
            "max_attempts": max_attempts,
            "beats": 0,
            "enqueued_at": self.clock.now(),
            "not_before": not_before,
            "traceparent": beneath.traceparent if beneath else None,
            "tracestate": (beneath.tracestate or None) if beneath else None,
        }
        added = session.scalars(insert.values(row).on_conflict_do_nothing().returning(JobRow.id))
        return added.first() is not None

    def cancel_queued(self, session: Session, kind: str, ref: str) -> bool:
        """Take a job that nobody runs off the queue, in the caller's transaction.

        False when there is none in the queue: it runs, has ended, or never was.
        """
        done = session.scalars(
            update(JobRow)
            .where(JobRow.kind == kind, JobRow.ref == ref, JobRow.state == QUEUED)
            .values(state=CANCELLED, finished_at=self.clock.now())
            .returning(JobRow.id)
        )
        return done.first() is not None

    def depth(self) -> dict[str, int]:
        """The count of queued jobs by kind."""
        query = select(JobRow.kind, func.count()).where(JobRow.state == QUEUED)
        with self.database.read() as session:
            rows = session.execute(query.group_by(JobRow.kind)).all()
        return dict(rows)

    def oldest_age(self) -> dict[str, float]:
        """For each kind, how many seconds the oldest job that could start has been waiting."""
        since = func.min(func.coalesce(JobRow.not_before, JobRow.enqueued_at), type_=UtcDateTime)
        query = select(JobRow.kind, since).where(JobRow.state == QUEUED).group_by(JobRow.kind)
        with self.database.read() as session:
            rows = session.execute(query).all()
        now = self.clock.now()
        return {kind: max((now - oldest).total_seconds(), 0.0) for kind, oldest in rows}

    def forget(self, older_than: timedelta) -> int:
        """Drop the rows of jobs that ended longer ago than that; the count of them."""
        before = self.clock.now() - older_than
        return drop(self.database, JobRow, JobRow.id, JobRow.finished_at < before)
