"""The audit trail: who did what, from where, with what outcome. Rows are only ever added.

What was done is written in the transaction that did it. What was refused (401, 403) is written on
its own, and summed up: one row per address, reason and minute, and of many addresses one row for
all together, so that an attacker fills no disk.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import JSON, Integer, String, select
from sqlalchemy.orm import Mapped, mapped_column

from app.kernel.errors import StorageFull, Unavailable
from app.kernel.sql import Database, KernelBase, UtcDateTime, new_id, utc_now

MANY = "many"
"""The address of refusals from more addresses than are told apart."""

log = structlog.get_logger("audit")


class AuditRow(KernelBase):
    """One act and its outcome."""

    __tablename__ = "kernel_audit"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    project: Mapped[str] = mapped_column(String(63), index=True)
    key_id: Mapped[str] = mapped_column(String(40))
    peer: Mapped[str | None] = mapped_column(String(32))
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(400))
    outcome: Mapped[str] = mapped_column(String(16))
    count: Mapped[int] = mapped_column(Integer, default=1)
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class Denials:
    """Sums up refused requests: the first of a kind is written at once, the rest by the minute."""

    def __init__(
        self,
        database: Database,
        *,
        window: timedelta = timedelta(minutes=1),
        clock: Callable[[], datetime] = utc_now,
        most: int = 1000,
    ) -> None:
        self._database = database
        self._window = window
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[datetime, int]] = {}

    def record(
        self, *, project: str, key_id: str, address: str, request_id: str, action: str, code: str
    ) -> None:
        """Note one refusal; writes a row only for the first of its kind in a window."""
        now = self._clock()
        kind = (project, key_id, address, code)
        with self._lock:
            if kind not in self._seen and self._is_crowded(now):
                project, key_id, address = "", "", MANY
                kind = (project, key_id, address, code)
            since, skipped = self._seen.get(kind, (None, 0))
            if since is not None and now - since < self._window:
                self._seen[kind] = (since, skipped + 1)
                return
            self._seen[kind] = (now, 0)
        row = AuditRow(
            project=project,
            key_id=key_id,
            address=address,
            request_id=request_id,
            action=action,
            subject="",
            outcome="denied",
            count=1 + skipped,
            detail={"code": code},
        )
        try:
            with self._database.write() as session:
                session.add(row)
        except (Unavailable, StorageFull) as error:
            # What was refused stays refused; the next row of its kind tells of this one, too.
            log.warning("denial_not_kept", error=error.detail, code=code)
            with self._lock:
                _, later = self._seen.get(kind, (now, 0))
                self._seen[kind] = (now, later + 1 + skipped)

    def _is_crowded(self, now: datetime) -> bool:
        """Whether too many kinds are remembered, those of past windows left out."""
        if len(self._seen) < self._most:
            return False
        live = {kind: seen for kind, seen in self._seen.items() if now - seen[0] < self._window}
        self._seen = live
        return len(live) >= self._most


def read_audit(
    databases: Sequence[Database], *, project: str, before: str | None, limit: int
) -> list[AuditRow]:
    """The newest rows of a project older than the row ``before``, over all databases."""
    found: list[AuditRow] = []
    for database in dict.fromkeys(databases):
        query = select(AuditRow).where(AuditRow.project == project)
        if before is not None:
            query = query.where(AuditRow.id < before)
        with database.read() as session:
            found += session.scalars(query.order_by(AuditRow.id.desc()).limit(limit))
    return sorted(found, key=lambda row: row.id, reverse=True)[:limit]
