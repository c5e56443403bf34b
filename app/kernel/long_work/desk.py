"""What clients do with long work of one kind, whatever it works at.

A service's class is a desk that adds how its work is asked for and what comes of it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.kernel import faults
from app.kernel.auth import Call
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict, NotFound
from app.kernel.http.pagination import Listing, Page
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.long_work.lifecycle import (
    CANCELLED,
    ENDED,
    QUEUED,
    Row,
    WorkEvent,
    events_of,
    forget_events,
    note,
)
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, utc_now

_POLL_SECONDS = 0.1
_MOST_REFERENCES = 100


@dataclass(frozen=True)
class WorkKind(Generic[Row]):
    """What one kind of work is called: by its ``service``, in events (``noun``), in the queue
    (``job``), to clients (``title``); where it is stored and how it is listed."""

    service: str
    noun: str
    job: str
    title: str
    table: type[Row]
    listing: Listing


class WorkDesk(Generic[Row]):
    """Where clients ask after their work."""

    def __init__(
        self, kind: WorkKind[Row], database: Database, ring: KeyRing, jobs: BoundedQueue
    ) -> None:
        self._kind = kind
        self._database = database
        self._changes = Changes(database, kind.service)
        self._ring = ring
        self._jobs = jobs

    def _enqueue(self, change: Change, row: Row, priority: int = 5) -> None:
        """Accept new work: its row, its job and its first event in one transaction.

        Raises TooManyRequests and Unavailable when too much of it waits.
        """
        self._jobs.admit(change.session, self._kind.job, row.project)
        change.session.add(row)
        change.session.flush()
        note(change.session, row, QUEUED, {})
        self._jobs.enqueue(
            *(change.session, self._kind.job, row.id),
            project=row.project,
            priority=priority,
            trace=change.call.trace,
        )
        change.record(f"{self._kind.noun}.queued", row.subject, row.about)
        faults.hit("work.enqueued")

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[Row]:
        """The project's work."""
        query = select(self._kind.table).where(self._kind.table.project == call.project)
        with self._database.read() as session:
            return self._kind.listing.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, work_id: str) -> Row:
        """One piece of work; raises NotFound."""
        with self._database.read() as session:
            return self._found(session, call, work_id)

    def wait(
        self, call: Call, work_id: str, *, seconds: float, known: Callable[[str], bool] | None
    ) -> Row:
        """The row once it has ended or changed, or after a time.

        ``known`` tells whether the caller has seen an ETag; without it, what counts is a change
        from now on.
        """
        until = time.monotonic() + call.patience(seconds)
        row = self.get(call, work_id)
        seen = row.etag if known is None or known(row.etag) else ""
        while not row.ended and row.etag == seen and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            row = self.get(call, work_id)
        return row

    def update(self, call: Call, work_id: str, tags: Mapping[str, str]) -> Row:
        """Replace the tags."""
        with self._changes.begin(call) as change:
            row = self._locked(change, work_id)
            row.tags = dict(tags)
            change.record(f"{self._kind.noun}.updated", row.subject, {"tags": row.tags})
        return row

    def cancel(self, call: Call, work_id: str) -> Row:
        """Stop it: at once while it is queued, else its worker is told; Conflict once ended."""
        with self._changes.begin(call) as change:
            row = self._locked(change, work_id)
            self._stop(change, row)
            change.answer(row)
        return row

    def _stop(self, change: Change, row: Row) -> None:
        if row.ended:
            raise Conflict(f"The {self._kind.title} has {row.stored_state} already")
        if row.stored_state == QUEUED:
            self._jobs.cancel_queued(change.session, self._kind.job, row.id)
            row.stored_state = CANCELLED
            row.finished_at = utc_now()
            note(change.session, row, CANCELLED, {})
            change.record(f"{self._kind.noun}.cancelled", row.subject)
        elif not row.cancel_requested:
            row.cancel_requested = True
            note(change.session, row, "cancelling", {})
            change.record(f"{self._kind.noun}.cancelling", row.subject)

    def delete(self, call: Call, work_id: str) -> Row:
        """Forget ended work with its events, and say what it was; Conflict while it lives."""
        with self._changes.begin(call) as change:
            row = self._locked(change, work_id)
            if not row.ended:
                raise Conflict(f"Cancel the {self._kind.title} before deleting it")
            forget_events(change.session, row)
            self._forget(change.session, row)
            change.record(f"{self._kind.noun}.deleted", row.subject, row.about)
            change.session.delete(row)
        return row

    def _forget(self, session: Session, row: Row) -> None:
        """Drop what else the service keeps of work that is deleted, in the same transaction."""

    def events(self, work_id: str, after: int) -> Sequence[WorkEvent]:
        """What happened since an event's number."""
        return events_of(self._database, work_id, after)

    def _unended(self, call: Call, *which: ColumnElement[bool]) -> Sequence[Mapping[str, Any]]:
        """The work not ended yet, as referrers of what it needs."""
        table = self._kind.table
        query = select(table).where(
            table.project == call.project, table.stored_state.not_in(ENDED), *which
        )
        reason = f"the {self._kind.title} has not ended"
        with self._database.read() as session:
            return [
                {"subject": row.subject, "state": row.state, "reason": reason}
                for row in session.scalars(query.limit(_MOST_REFERENCES))
            ]

    def _found(self, session: Session, call: Call, work_id: str, *, locked: bool = False) -> Row:
        table = self._kind.table
        query = select(table).where(table.project == call.project, table.id == work_id)
        row = session.scalar(query.with_for_update() if locked else query)
        if row is None:
            raise NotFound(f"There is no {self._kind.title} {work_id}")
        return row

    def _locked(self, change: Change, work_id: str) -> Row:
        """The row, locked, and as If-Match wants it."""
        row = self._found(change.session, change.call, work_id, locked=True)
        change.guard(row)
        return row
