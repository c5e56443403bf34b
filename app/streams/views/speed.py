"""The speed layer: records after a batch, folded into the state of their partition.

In order: read the state's offset, read the records from there on, fold them; then, in one
transaction, lock the state, see that it still is at that offset, add the fold to its rows and move
its offset past the records. So a record counts once, whoever folds it in how often: what was killed
before the end has changed nothing, and of two who did the same the second finds the offset moved.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.kernel import faults
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.seam import OffsetGone, Record, RecordLog
from app.kernel.sql import Database
from app.streams.views.aggregation import (
    Aggregation,
    Groups,
    digest_of,
    dumped,
    merge,
    row_digest,
)
from app.streams.views.tables import MODEL, LambdaView, SpeedRow, SpeedState

AT_ONCE: Final = 1000
_KEYS_AT_ONCE: Final = 200


@dataclass(frozen=True)
class Place:
    """One speed state: that of a partition after a view's batch."""

    view_id: str
    number: int
    partition: int


class ModelFold(Protocol):
    """What folds records into the learners of model views."""

    def fold(self, view: LambdaView, place: Place, records: Sequence[Record]) -> int:
        """Fold the records that follow a state in; how many were. Raises Unavailable."""


@dataclass(frozen=True)
class Moved:
    """What a step did: how many records it folded in, the offset that the state is known to have
    come to, and whether there is no way on."""

    records: int = 0
    offset: int = 0
    gap: bool = False


class SpeedLayer:
    """Moves speed states on; any number of processes may do so at once."""

    def __init__(
        self,
        database: Database,
        log: RecordLog,
        clock: Clock = SYSTEM_CLOCK,
        models: ModelFold | None = None,
    ) -> None:
        """``models`` folds for model views, which stand still without it."""
        self._database = database
        self._log = log
        self._clock = clock
        self._models = models

    def advance(self, view_id: str, partition: int, limit: int = AT_ONCE) -> Moved:
        """Fold the next records into the state that answers are merged with, if there are any."""
        mine = LambdaView.serving_number == SpeedState.number
        return self._move(view_id, partition, limit, mine)

    def step(self, place: Place, limit: int = AT_ONCE) -> Moved:
        """Fold the next records into a state; nothing, where it is gone or others were faster."""
        mine = SpeedState.number == place.number
        return self._move(place.view_id, place.partition, limit, mine)

    def _move(self, view_id: str, partition: int, limit: int, which: ColumnElement[bool]) -> Moved:
        query = (
            select(LambdaView, SpeedState.number, SpeedState.offset)
            .join(SpeedState, SpeedState.view_id == LambdaView.id)
            .where(LambdaView.id == view_id, SpeedState.partition == partition, which)
        )
        with self._database.read() as session:
            found = session.execute(query).one_or_none()
        if found is None:
            return Moved()
        view: LambdaView = found[0]
        try:
            records = self._log.read(view.topic_id, partition, found.offset, limit)
        except OffsetGone:
            return Moved(0, found.offset, gap=True)
        if not records:
            return Moved(0, found.offset)
        place, end = Place(view_id, found.number, partition), records[-1].offset + 1
        if view.kind == MODEL:
            return self._learn(view, place, records)
        aggregation = Aggregation.of(view.definition)
        groups = aggregation.fold(record.value for record in records)
        faults.hit("views.folded")
        with self._database.write() as session:
            if not self._enter(session, place, aggregation, groups, (found.offset, end)):
                return Moved(0, found.offset)
            faults.hit("views.entered")
        return Moved(len(records), end)

    def _learn(self, view: LambdaView, place: Place, records: Sequence[Record]) -> Moved:
        if self._models is None or not self._models.fold(view, place, records):
            return Moved(0, records[0].offset)
        return Moved(len(records), records[-1].offset + 1)

    def offsets(self, view_id: str, number: int | None = None) -> dict[int, int]:
        """How far the speed states after a batch have come; without a number, those in place."""
        query = select(SpeedState.partition, SpeedState.offset).where(SpeedState.view_id == view_id)
        if number is None:
            query = query.join(LambdaView, LambdaView.id == SpeedState.view_id)
            query = query.where(SpeedState.number == LambdaView.serving_number)
        else:
            query = query.where(SpeedState.number == number)
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(query)}

    def follow(self, session: Session, place: Place, end: int) -> bool:
        """Fold what is missing before an offset into a state that the caller has locked, in its
        transaction; False, and nothing is done, where that is much.
        """
        view = session.get_one(LambdaView, place.view_id)
        state = session.get_one(SpeedState, (place.view_id, place.number, place.partition))
        missing = end - state.offset
        # Learners ask the batch model, which can't be done in a transaction.
        if missing > AT_ONCE or view.kind == MODEL:
            return False
        try:
            records = self._log.read(view.topic_id, place.partition, state.offset, missing)
        except OffsetGone:
            return False
        aggregation = Aggregation.of(view.definition)
        groups = aggregation.fold(record.value for record in records)
        return len(records) == missing and self._enter(
            session, place, aggregation, groups, (state.offset, end)
        )

    def _enter(
        self,
        session: Session,
        place: Place,
        aggregation: Aggregation,
        groups: Groups,
        interval: tuple[int, int],
    ) -> bool:
        """Add a fold to the rows of a state; False where it isn't at the beginning of it."""
        key = (place.view_id, place.number, place.partition)
        state = session.get(SpeedState, key, with_for_update=True)
        if state is None or state.offset != interval[0]:
            return False
        parts: list[int] = []
        keys = sorted(groups.tallies)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            before = _rows_of(session, place, some)
            after = dict(_added(aggregation, groups, before, some))
            parts += (
                row_digest(one, after[one]) - row_digest(one, before.get(one)) for one in some
            )
            self._store(session, place, after)
        state.offset = interval[1]
        state.records += groups.records
        state.skipped += groups.skipped
        state.digest = digest_of(parts, state.digest)
        state.moved_at = self._clock.now()
        return True

    def _store(self, session: Session, place: Place, rows: Mapping[str, str]) -> None:
        insert = (sqlite if self._database.dialect == "sqlite" else postgresql).insert(SpeedRow)
        values: list[dict[str, Any]] = [
            {**vars(place), "key": key, "tallies": text} for key, text in rows.items()
        ]
        identity = ["view_id", "number", "partition", "key"]
        changed = {"tallies": insert.excluded.tallies}
        session.execute(insert.on_conflict_do_update(index_elements=identity, set_=changed), values)


def _rows_of(session: Session, place: Place, keys: Sequence[str]) -> dict[str, str]:
    query = select(SpeedRow.key, SpeedRow.tallies).where(
        SpeedRow.view_id == place.view_id,
        SpeedRow.number == place.number,
        SpeedRow.partition == place.partition,
        SpeedRow.key.in_(keys),
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _added(
    aggregation: Aggregation, groups: Groups, before: Mapping[str, str], keys: Sequence[str]
) -> Iterable[tuple[str, str]]:
    for key in keys:
        tallies = groups.tallies[key]
        if key in before:
            merge(tallies, aggregation.load(before[key]))
        yield key, dumped(tallies)
