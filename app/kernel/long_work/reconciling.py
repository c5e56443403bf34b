"""Work that waits for a job that will never come: found, and ended.

A job ends after its work, and both begin in one transaction. So work that has not ended while no
job of it is unfinished was left by a defect, or by a hand in the tables: nobody would ever look at
it again, and whoever waits for it would wait for ever.
"""

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import exists, select

from app.kernel.auth import Call
from app.kernel.jobs.queue import JobRow
from app.kernel.long_work.desk import WorkKind
from app.kernel.long_work.lifecycle import ENDED, Lifecycle, Made, Row, nothing_made
from app.kernel.sql import Database

_MOST = 500
log = structlog.get_logger("work")


def end_orphans(
    database: Database,
    kind: WorkKind[Row],
    made: Callable[[Call, Row], Made | None] = nothing_made,
) -> int:
    """End the work of a kind that has no job any more, as ``lost_worker``; the count of it.

    ``made`` is that of ``Lifecycle``: what has been made has succeeded.
    """
    table: Any = kind.table
    has_job = exists().where(
        JobRow.kind == kind.job, JobRow.ref == table.id, JobRow.finished_at.is_(None)
    )
    query = select(table.id).where(table.stored_state.not_in(ENDED), ~has_job)
    with database.read() as session:
        orphans = session.scalars(query.limit(_MOST)).all()
    lifecycle = Lifecycle(database, kind.table, service=kind.service, noun=kind.noun, made=made)
    for work_id in orphans:
        log.warning("work_without_job", kind=kind.job, work=work_id)
        lifecycle.give_up(work_id, "lost_worker", "Its job is gone: it would never have been done")
    return len(orphans)
