"""Batches of views as clients see them, and when one is due by itself."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.changes import Change
from app.kernel.errors import Conflict, NotFound, ServiceError
from app.kernel.http.pagination import Listing, Page
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.log.seam import RecordLog
from app.kernel.long_work.desk import WorkDesk, WorkKind
from app.kernel.long_work.lifecycle import ENDED, SUCCEEDED, Made
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id, utc_now
from app.streams.views.lookup import find_view
from app.streams.views.ports import Training
from app.streams.views.tables import LambdaView, Offsets, ViewBatch

JOB: Final = "view_batch"
_PAUSE_AFTER_FAILURE: Final = timedelta(seconds=60)
_PAUSE_AFTER_DRIFT: Final = timedelta(minutes=5)
log = structlog.get_logger("views")

BATCHES = Listing(
    "ViewBatches",
    {
        "created_at": ViewBatch.created_at,
        "state": ViewBatch.stored_state,
        "version": ViewBatch.number,
    },
    order=("version", "created_at"),
    identity=ViewBatch.id,
    default_order="-version",
)
KIND = WorkKind("streams", "view_batch", JOB, "batch", ViewBatch, BATCHES)


class ViewBatches(WorkDesk[ViewBatch]):
    """What can be done with the batches of views."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        jobs: BoundedQueue,
        record_log: RecordLog,
        training: Training,
    ) -> None:
        super().__init__(KIND, database, ring, jobs)
        self._log = record_log
        self._training = training

    def of_view(self, call: Call, name: str, arguments: Mapping[str, Any]) -> Page[ViewBatch]:
        """The batches of a view."""
        with self._database.read() as session:
            view = find_view(session, call, name)
            query = select(ViewBatch).where(ViewBatch.view_id == view.id)
            return BATCHES.page(session, query, arguments, self._ring, f"{call.project}/{view.id}")

    def numbered(self, call: Call, name: str, number: int) -> ViewBatch:
        """One batch of a view; raises NotFound."""
        with self._database.read() as session:
            view = find_view(session, call, name)
            row = session.scalar(
                select(ViewBatch).where(ViewBatch.view_id == view.id, ViewBatch.number == number)
            )
        if row is None:
            raise NotFound(f"The view {name} has no batch {number}")
        return row

    def create(self, call: Call, name: str, cause: str = "call") -> ViewBatch:
        """Have a batch made up to now; Conflict while one is under way, or where the records that
        it would need are gone.
        """
        with self._database.read() as session:
            view = find_view(session, call, name)
        firsts = {
            str(place): first for place, (first, _) in self._log.bounds(view.topic_id).items()
        }
        base_of(view, firsts)
        with self._changes.begin(call) as change:
            batch = self._numbered_next(change, view, cause)
            self._enqueue(change, batch)
            change.answer(batch)
        return batch

    def cancel(self, call: Call, work_id: str) -> ViewBatch:
        """Stop it, and the training run that it waits for; Conflict once ended.

        A run that it has just asked for, and doesn't know yet, is stopped by its worker.
        """
        batch = super().cancel(call, work_id)
        run = (batch.training or {}).get("run")
        if run is not None:
            self._training.cancel(call, run)
        return batch

    def _numbered_next(self, change: Change, view: LambdaView, cause: str) -> ViewBatch:
        # Outside the row version: the view itself stays as it is.
        number = change.session.scalar(
            update(LambdaView)
            .where(LambdaView.id == view.id)
            .values(last_number=LambdaView.last_number + 1, updated_at=LambdaView.updated_at)
            .returning(LambdaView.last_number)
            .execution_options(synchronize_session=False)
        )
        if number is None:
            raise NotFound(f"There is no view {view.name}")
        if change.session.scalar(select(_unended(view.id))):
            raise Conflict(f"A batch of the view {view.name} is under way already")
        return ViewBatch(
            id=new_id(),
            project=view.project,
            tags={},
            view_id=view.id,
            view=view.name,
            number=number,
            cause=cause,
        )

    def tend(self, view_id: str, now: datetime) -> bool:
        """Ask for a batch of a view where one is due; whether it was asked for."""
        with self._database.read() as session:
            view = session.get(LambdaView, view_id)
        if view is None or (view.every_seconds is None and view.lag_records is None):
            return False
        cause = self._cause(view, now)
        if cause is None:
            return False
        try:
            self.create(_call_for(view), view.name, cause)
        except (Conflict, NotFound) as error:
            # Others were faster, or it can't be made any more: answers tell so.
            log.info("batch_not_made", view=view.subject, why=error.detail)
            return False
        return True

    def call_early(self, view: LambdaView) -> None:
        """Have a batch made because of a drift, unless one is under way or has only just been."""
        last = self._last(view)
        if last is not None and utc_now() < last.created_at + _PAUSE_AFTER_DRIFT:
            return
        try:
            self.create(_call_for(view), view.name, "drift")
        except ServiceError as error:
            log.info("batch_not_called_early", view=view.subject, why=error.detail)

    def _last(self, view: LambdaView) -> ViewBatch | None:
        query = select(ViewBatch).where(ViewBatch.view_id == view.id)
        with self._database.read() as session:
            return session.scalar(query.order_by(ViewBatch.number.desc()).limit(1))

    def _cause(self, view: LambdaView, now: datetime) -> str | None:
        """Why a batch is due; None when none is."""
        last = self._last(view)
        if last is not None and not last.ended:
            return None
        since = view.created_at if last is None else last.created_at
        failed = last is not None and last.stored_state != SUCCEEDED
        if failed and now < since + _PAUSE_AFTER_FAILURE:
            return None
        bounds = self._log.bounds(view.topic_id)
        after = sum(end - view.serving_offsets[str(place)] for place, (_, end) in bounds.items())
        if view.lag_records is not None and after >= view.lag_records:
            return "lag"
        every = view.every_seconds
        if every is not None and after and now >= since + timedelta(seconds=every):
            return "schedule"
        return None


def base_of(view: LambdaView, firsts: Offsets) -> int | None:
    """The batch that a new one continues; None: it begins at the origin, as all records are there.

    Raises Conflict where neither is possible.
    """
    if not is_gone(view.origin, firsts):
        return None
    if view.serving_number and not is_gone(view.serving_offsets, firsts):
        return view.serving_number
    raise Conflict(
        "Records that a batch would need are no longer kept by the topic",
        extra={"first_offsets": firsts},
    )


def is_gone(offsets: Offsets, firsts: Offsets) -> bool:
    """Whether a record at or after these offsets is no longer kept."""
    return any(firsts[place] > offset for place, offset in offsets.items())


def _unended(view_id: str) -> Any:
    return exists().where(ViewBatch.view_id == view_id, ViewBatch.stored_state.not_in(ENDED))


def _call_for(view: LambdaView) -> Call:
    return Call(view.project, "views", frozenset(), f"view-{view.id}", peer="streams")


def batches_of(session: Session, view_id: str) -> Sequence[ViewBatch]:
    """All batches of a view."""
    return session.scalars(select(ViewBatch).where(ViewBatch.view_id == view_id)).all()


def made(_call: Call, batch: ViewBatch) -> Made | None:
    """What an attempt achieved that died before the batch had ended: once it is swapped in, or
    known to be too old, the batch has succeeded."""
    if batch.outcome is None:
        return None
    return {}, {"view": batch.view, "version": batch.number}
