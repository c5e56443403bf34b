"""Idempotency-Key: a retry of an unknown outcome finds the first answer and never doubles.

In order: the key is reserved and committed with a lease; the request runs, without a transaction
held round it; the effect's own transaction completes the reservation with the answer, so that
either both are there or neither. A failed request releases its reservation. One whose process died
is free again when the lease has run out.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Integer, String, Text, UniqueConstraint, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.kernel.auth import Call
from app.kernel.errors import Conflict, InProgress, Invalid, StorageFull, Unavailable
from app.kernel.retention import drop
from app.kernel.sql import Database, KernelBase, UtcDateTime, lease_holds, new_id, utc_now

LEASE = timedelta(seconds=60)
_MOST_ABANDONED = 1000


@dataclass(frozen=True)
class Answer:
    """What was answered: status, JSON text and the headers that belong to it."""

    status: int
    body: str
    headers: Mapping[str, str]


class IdempotencyRow(KernelBase):
    """One key of one caller."""

    __tablename__ = "kernel_idempotency"
    __table_args__ = (UniqueConstraint("project", "key_id", "key"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str] = mapped_column(String(63))
    key_id: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    lease_until: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    status: Mapped[int | None] = mapped_column(Integer)
    body: Mapped[str | None] = mapped_column(Text)
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON)


def fingerprint(*parts: bytes) -> str:
    """What makes two requests the same: SHA-256 over the parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class HeldKey:
    """A reservation of this request (the ``Reservation`` of a ``Call``)."""

    def __init__(
        self, store: "IdempotencyStore", row_id: str, render: Callable[[Any], Answer]
    ) -> None:
        self._store = store
        self._row_id = row_id
        self._render = render
        self.completed = False

    def complete(self, session: Session, result: Any) -> None:
        """Store the answer in the session's transaction.

        Raises Conflict when the lease ran out and another request took the key.
        """
        answer = self._render(result)
        done = session.execute(
            update(IdempotencyRow)
            .where(IdempotencyRow.id == self._row_id, IdempotencyRow.status.is_(None))
            .values(status=answer.status, body=answer.body, headers=dict(answer.headers))
        )
        if getattr(done, "rowcount", 0) != 1:
            raise Conflict("Another request has taken over this Idempotency-Key")
        self.completed = True

    def renew(self) -> None:
        """Hold the key for another lease: for requests that take long, such as uploads."""
        with self._store.database.write() as session:
            session.execute(
                update(IdempotencyRow)
                .where(IdempotencyRow.id == self._row_id)
                .values(lease_until=self._store.clock() + LEASE)
            )

    def release(self) -> None:
        """Free the key after a failure; a completed one stays.

        Where the database can't be used just then, the next request with the key frees it.
        """
        try:
            with self._store.database.write() as session:
                session.execute(
                    delete(IdempotencyRow).where(
                        IdempotencyRow.id == self._row_id, IdempotencyRow.status.is_(None)
                    )
                )
        except (Unavailable, StorageFull):
            self._store.abandon(self._row_id)


class IdempotencyStore:
    """The keys of one database."""

    def __init__(
        self,
        database: Database,
        *,
        kept: timedelta = timedelta(hours=24),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.database = database
        self.clock = clock
        self._kept = kept
        # Oldest first: reservations of requests that have failed, and couldn't say so.
        self._abandoned: deque[str] = deque(maxlen=_MOST_ABANDONED)

    def abandon(self, row_id: str) -> None:
        """The request of a reservation has ended in this process without an answer."""
        self._abandoned.append(row_id)

    def reserve(
        self, call: Call, key: str, request: str, render: Callable[[Any], Answer]
    ) -> HeldKey | Answer:
        """Hold the key for this request, or give the answer that it had before.

        Raises Invalid when the key was used for another request, InProgress while that one runs.
        """
        try:
            return self._reserve(call, key, request, render)
        except IntegrityError:
            # Two first requests at once: the other one has inserted its row meanwhile.
            return self._reserve(call, key, request, render)

    def _reserve(
        self, call: Call, key: str, request: str, render: Callable[[Any], Answer]
    ) -> HeldKey | Answer:
        now = self.clock()
        row_id = new_id()
        with self.database.write() as session:
            row = session.scalar(
                select(IdempotencyRow)
                .where(
                    IdempotencyRow.project == call.project,
                    IdempotencyRow.key_id == call.key_id,
                    IdempotencyRow.key == key,
                )
                .with_for_update()
            )
            if row is not None and row.expires_at > now:
                known = self._answer_of(row, request, now)
                if known is not None:
                    return known
            if row is not None:
                session.delete(row)
                session.flush()
            session.add(
                IdempotencyRow(
                    id=row_id,
                    project=call.project,
                    key_id=call.key_id,
                    key=key,
                    fingerprint=request,
                    lease_until=now + LEASE,
                    expires_at=now + self._kept,
                )
            )
        return HeldKey(self, row_id, render)

    def _answer_of(self, row: IdempotencyRow, request: str, now: datetime) -> Answer | None:
        if row.fingerprint != request:
            raise Invalid.at(
                "Idempotency-Key", "key_reused", "The key was used for another request"
            )
        if row.status is not None:
            return Answer(row.status, row.body or "", row.headers or {})
        if lease_holds(row.lease_until, LEASE, now) and row.id not in self._abandoned:
            raise InProgress(
                "The first request with this Idempotency-Key is still running",
                retry_after=max(1.0, (row.lease_until - now).total_seconds() / 10),
            )
        return None

    def forget(self) -> int:
        """Drop the keys whose time is over; the count of them."""
        over = IdempotencyRow.expires_at <= self.clock()
        return drop(self.database, IdempotencyRow, IdempotencyRow.id, over)
