"""How processors get on, partition by partition: counts, rate, tries, the last failure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.streams.processors.handling import Failure
from app.streams.processors.tables import ProcessorProgress

_FADING_SECONDS: Final = 60.0
_MOST_DETAIL: Final = 500
COUNTS: Final = ("taken", "written", "dead", "dropped", "late", "gone", "errors")


@dataclass(frozen=True)
class Advance:
    """What one transaction adds to the counts; ``gone``: dropped by retention, never read."""

    taken: int = 0
    written: int = 0
    dead: int = 0
    dropped: int = 0
    late: int = 0
    gone: int = 0


def tries_at(session: Session, processor: str, partition: int, offset: int) -> int:
    """How often the record at an offset has been tried in vain."""
    row = session.get(ProcessorProgress, (processor, partition))
    return row.tries if row is not None and row.tried_offset == offset else 0


def note_advance(
    session: Session, processor: str, partition: int, advance: Advance, now: datetime
) -> ProcessorProgress:
    """Add to the counts of a partition; the caller holds it by its epoch."""
    row = _row(session, processor, partition)
    for name in ("taken", "written", "dead", "dropped", "late", "gone"):
        setattr(row, name, getattr(row, name) + getattr(advance, name))
    row.rate = faded(row, now) + advance.taken / _FADING_SECONDS
    row.rated_at = now
    return row


def note_failure(row: ProcessorProgress, failure: Failure, tries: int, now: datetime) -> None:
    """Remember that a record was tried in vain once more."""
    row.errors += 1
    row.tried_offset, row.tries = failure.record.offset, tries
    row.last_failure = told_failure(failure.record.offset, failure.code, failure.detail, now)


def note_trouble(
    session: Session,
    processor: str,
    partition: int,
    offset: int,
    why: tuple[str, str],
    at: datetime,
) -> None:
    """Remember trouble that is no record's fault."""
    row = _row(session, processor, partition)
    row.errors += 1
    row.last_failure = told_failure(offset, *why, at)


def told_failure(offset: int, code: str, detail: str, now: datetime) -> dict[str, Any]:
    """A failure as the resource tells it."""
    return {
        "offset": offset,
        "code": code,
        "detail": detail[:_MOST_DETAIL],
        "at": now.isoformat().replace("+00:00", "Z"),
    }


def faded(row: ProcessorProgress, now: datetime) -> float:
    """Records a second over about the last minute, as of now."""
    if row.rated_at is None:
        return 0.0
    age = max(0.0, (now - row.rated_at).total_seconds())
    return row.rate * math.exp(-age / _FADING_SECONDS)


def progress_of(session: Session, processor: str) -> Sequence[ProcessorProgress]:
    """The partitions of a processor that have been begun."""
    query = select(ProcessorProgress).where(ProcessorProgress.processor == processor)
    return list(session.scalars(query.order_by(ProcessorProgress.partition)))


def _row(session: Session, processor: str, partition: int) -> ProcessorProgress:
    row = session.get(ProcessorProgress, (processor, partition))
    if row is None:
        row = ProcessorProgress(processor=processor, partition=partition, rate=0.0, tries=0)
        for name in COUNTS:
            setattr(row, name, 0)
        session.add(row)
    return row
