"""The moment at which answers change from one batch to the next, and what is tidied after it.

A batch is swapped in by one transaction, which locks the view and the speed states of both batches,
so that nobody moves them on. Those of the new batch must have come at least as far as those that
answers are merged with: a little that is missing is folded in there and then; were it much, nothing
happens. So an answer never goes back, and the records of an answer are those before one offset of
each partition, each counted once, whichever batch it is merged with.

A batch that is not newer than the one in place (a duplicate, or one that was overtaken) is ignored.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.errors import ServiceError
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.long_work.lifecycle import RUNNING, Superseded, forget_events
from app.kernel.sql import Database
from app.streams.learning.tables import ViewModelState
from app.streams.views.speed import Place
from app.streams.views.tables import LambdaView, Offsets, SpeedRow, SpeedState, ViewBatch

Follow = Callable[[Session, Place, int], bool]
"""Folds what little is missing before an offset into a speed state (``SpeedLayer.follow``)."""
SWAPPED, IGNORED = "serving", "ignored"
_ROWS_AT_ONCE: Final = 2000
_BATCHES_KEPT: Final = 100
NO_LEARNERS: Final[Mapping[int, bytes]] = {}


@dataclass(frozen=True)
class Candidate:
    """A batch that is about to be swapped in, by one attempt of its job."""

    view_id: str
    batch_id: str
    attempt: int
    number: int
    offsets: Offsets
    contents: Mapping[str, Any] | None


class Swaps:
    """Swaps batches in."""

    def __init__(
        self, database: Database, store: ArtifactStore, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    def begin(self, candidate: Candidate, learners: Mapping[int, bytes] = NO_LEARNERS) -> None:
        """Make the speed states after a batch, and forget what another attempt has left.

        They are empty, or have learners by partition. Nothing for a batch that would be ignored,
        or is in place already. Raises Superseded.
        """
        with self._database.write() as session:
            view, batch = _locked(session, candidate)
            if batch.outcome is None and not _is_old(view, candidate):
                _forget_states(session, candidate.view_id, candidate.number)
                mine = (SpeedRow.view_id == view.id, SpeedRow.number == candidate.number)
                session.execute(delete(SpeedRow).where(*mine))
                add_states(session, view.id, candidate.number, candidate.offsets, self._clock)
                session.add_all(
                    ViewModelState(
                        view_id=view.id, number=candidate.number, partition=partition, state=state
                    )
                    for partition, state in learners.items()
                )

    def swap(self, candidate: Candidate, results: Mapping[str, Any], follow: Follow) -> bool:
        """Have answers merged with this batch from now on; False while its speed states are far
        behind those in place. ``results`` become columns of the batch. Raises Superseded.
        """
        with self._database.write() as session:
            view, batch = _locked(session, candidate)
            if batch.outcome is not None:
                return True
            if _is_old(view, candidate):
                _become(batch, candidate, results, IGNORED)
                return True
            behind = _behind(session, view, candidate.number)
            if not all(follow(session, place, end) for place, end in behind.items()):
                session.rollback()
                return False
            _become(batch, candidate, results, SWAPPED)
            _forget_states(session, view.id, view.serving_number)
            serve(session, view, candidate, self._clock)
        return True

    def tidy(self, view_id: str) -> None:
        """Drop what no batch needs any more: states and rows, contents but the last, old batches.

        What is there is read first and what needs it last: a batch that begins, or is swapped in
        meanwhile, loses nothing.
        """
        numbers: set[int] = set()
        with self._database.read() as session:
            for table in (SpeedRow, SpeedState):
                found = select(table.number).where(table.view_id == view_id).distinct()
                numbers.update(session.scalars(found))
            query = select(ViewBatch).where(ViewBatch.view_id == view_id)
            batches = list(session.scalars(query.order_by(ViewBatch.number.desc())))
            view = session.get(LambdaView, view_id)
        needed = {batch.number for batch in batches if not batch.ended}
        if view is not None:
            needed.add(view.serving_number)
        for number in numbers - needed:
            with self._database.write() as session:
                _forget_states(session, view_id, number)
            self._drop_rows(view_id, number)
        served = [batch for batch in batches if batch.outcome == SWAPPED]
        # A request that has just read which batch was in place finds its rows all the same.
        kept = {batch.id for batch in served[:2]}
        for batch in batches:
            if batch.ended and batch.contents is not None and batch.id not in kept:
                self._drop_contents(batch)
        for batch in batches[_BATCHES_KEPT:]:
            self._drop_batch(batch)

    def clear(self, view_id: str, batches: Sequence[ViewBatch]) -> None:
        """Drop what a view and its batches have left that are deleted."""
        for batch in batches:
            if batch.contents is not None:
                with suppress(ServiceError):
                    self._store.delete(batch.contents["key"])
        self.tidy(view_id)

    def _drop_rows(self, view_id: str, number: int) -> None:
        mine = (SpeedRow.view_id == view_id, SpeedRow.number == number)
        while True:
            with self._database.write() as session:
                keys = session.scalars(select(SpeedRow.key).where(*mine).limit(_ROWS_AT_ONCE))
                some = set(keys)
                session.execute(delete(SpeedRow).where(*mine, SpeedRow.key.in_(some)))
            if not some:
                return

    def _drop_contents(self, batch: ViewBatch) -> None:
        with suppress(ServiceError):
            self._store.delete((batch.contents or {})["key"])
            with self._database.write() as session:
                _change_quietly(session, ViewBatch, batch.id, contents=None)

    def _drop_batch(self, batch: ViewBatch) -> None:
        with self._database.write() as session:
            row = session.get(ViewBatch, batch.id, with_for_update=True)
            if row is not None and row.ended and row.contents is None:
                forget_events(session, row)
                session.delete(row)


def add_states(session: Session, view_id: str, number: int, offsets: Offsets, clock: Clock) -> None:
    """Make empty speed states, one for each partition, from these offsets on."""
    session.add_all(
        SpeedState(
            view_id=view_id,
            number=number,
            partition=int(partition),
            offset=offset,
            moved_at=clock.now(),
        )
        for partition, offset in offsets.items()
    )


def serve(session: Session, view: LambdaView, candidate: Candidate, clock: Clock) -> None:
    """Name the batch in the row of its view, outside the row version."""
    _change_quietly(
        *(session, LambdaView, view.id),
        serving_number=candidate.number,
        serving_offsets=candidate.offsets,
        serving_contents=None if candidate.contents is None else dict(candidate.contents),
        serving_since=clock.now(),
    )


def _locked(session: Session, candidate: Candidate) -> tuple[LambdaView, ViewBatch]:
    """The view, then the batch, if it still is this attempt's."""
    view = session.get(LambdaView, candidate.view_id, with_for_update=True)
    batch = session.get(ViewBatch, candidate.batch_id, with_for_update=True)
    mine = (candidate.attempt, RUNNING)
    if view is None or batch is None or (batch.attempt, batch.stored_state) != mine:
        raise Superseded(candidate.batch_id)
    return view, batch


def _is_old(view: LambdaView, candidate: Candidate) -> bool:
    behind = any(candidate.offsets[place] < end for place, end in view.serving_offsets.items())
    return candidate.number <= view.serving_number or behind


def _behind(session: Session, view: LambdaView, number: int) -> dict[Place, int]:
    """The speed states after a batch that have not come as far as the one in place, with the
    offset that this one has come to; all of them are locked."""
    query = (
        select(SpeedState)
        .where(SpeedState.view_id == view.id, SpeedState.number.in_((view.serving_number, number)))
        .order_by(SpeedState.number, SpeedState.partition)
        .with_for_update()
    )
    reached: dict[int, dict[int, int]] = {view.serving_number: {}, number: {}}
    for state in session.scalars(query):
        reached[state.number][state.partition] = state.offset
    new, old = reached[number], reached[view.serving_number]
    late = [partition for partition in old if new[partition] < old[partition]]
    return {Place(view.id, number, partition): old[partition] for partition in late}


def _become(
    batch: ViewBatch, candidate: Candidate, results: Mapping[str, Any], outcome: str
) -> None:
    for name, value in results.items():
        setattr(batch, name, value)
    batch.contents = None if candidate.contents is None else dict(candidate.contents)
    batch.outcome = outcome


def _forget_states(session: Session, view_id: str, number: int) -> None:
    mine = (SpeedState.view_id == view_id, SpeedState.number == number)
    session.execute(
        delete(SpeedState).where(*mine), execution_options={"synchronize_session": False}
    )
    learnt = (ViewModelState.view_id == view_id, ViewModelState.number == number)
    session.execute(delete(ViewModelState).where(*learnt))


def _change_quietly(session: Session, table: Any, row_id: str, **columns: Any) -> None:
    change = update(table).where(table.id == row_id)
    session.execute(
        change.values(updated_at=table.updated_at, **columns),
        execution_options={"synchronize_session": False},
    )
