"""The speed layer of model views: a partition's records folded into its learner.

As for aggregates, a step reads the state's offset and the records from there on, folds them, and
enters the fold in one transaction that looks whether the offset still is where it was. The batch
model's answers to the rows are asked for before, many at once.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel import faults
from app.kernel.auth import Call
from app.kernel.changes import Change
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.seam import Record
from app.kernel.sql import Database
from app.streams.learning.drift import WORSE
from app.streams.learning.labelling import Half
from app.streams.learning.merges import Answer
from app.streams.learning.prequential import Prequential
from app.streams.learning.speed_model import LAYERS, SpeedModel
from app.streams.learning.tables import ViewModelState, ViewModelTotals
from app.streams.processors.ports import Predictions
from app.streams.views.batch_answers import BatchModel
from app.streams.views.gathering import half_of
from app.streams.views.model_definition import ModelDefinition
from app.streams.views.speed import Place
from app.streams.views.tables import LambdaView, SpeedState, ViewBatch

AT_ONCE: Final = 500
_HELD: Final = 64
OnDrift = Callable[[LambdaView], None]


@dataclass
class _Fold:
    """What a step makes of records; ``judged`` is what it adds to the view's metrics."""

    layer: SpeedModel
    judged: dict[str, Prequential]
    end: int
    records: int
    skipped: int = 0
    drifts: list[dict[str, Any]] = field(default_factory=list)


class ModelSpeed:
    """Folds records into the learners of model views."""

    def __init__(
        self,
        database: Database,
        predictions: Predictions,
        *,
        most_rows: int,
        on_drift: OnDrift = lambda _view: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._database = database
        self._predictions = predictions
        self._most_rows = most_rows
        self._on_drift = on_drift
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[Place, tuple[int, SpeedModel]] = OrderedDict()

    def fold(self, view: LambdaView, place: Place, records: Sequence[Record]) -> int:
        """Fold the records that follow a state in; how many were, 0 where others were faster.

        Raises Unavailable while the batch model can't be asked.
        """
        offset = records[0].offset
        definition = ModelDefinition.of(view.definition)
        layer = self._layer(definition, place, offset)
        fold = self._folded(view, definition, place, layer, records)
        faults.hit("model_views.folded")
        serving = place.number == view.serving_number
        with self._database.write() as session:
            if not self._enter(session, place, offset, fold):
                return 0
            if serving:
                self._tell(session, view, place, fold)
            faults.hit("model_views.entered")
        self._hold(place, fold.end, layer)
        worse = any(drift["direction"] == WORSE for drift in fold.drifts)
        if serving and worse and definition.early_on_drift:
            self._on_drift(view)
        return fold.records

    def _layer(self, definition: ModelDefinition, place: Place, offset: int) -> SpeedModel:
        """The learner of a state at an offset; nobody else has it while it is changed."""
        with self._lock:
            held = self._held.pop(place, None)
        if held is not None and held[0] == offset:
            return held[1]
        with self._database.read() as session:
            row = session.get(ViewModelState, (place.view_id, place.number, place.partition))
            state = None if row is None else row.state
        return SpeedModel(definition.spec) if state is None else SpeedModel.restored(state)

    def _hold(self, place: Place, end: int, layer: SpeedModel) -> None:
        with self._lock:
            self._held[place] = (end, layer)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)

    def _folded(
        self,
        view: LambdaView,
        definition: ModelDefinition,
        place: Place,
        layer: SpeedModel,
        records: Sequence[Record],
    ) -> _Fold:
        judged = {name: Prequential(definition.spec.online.task) for name in LAYERS}
        fold = _Fold(layer, judged, records[-1].offset + 1, len(records))
        halves: list[tuple[Record, Half]] = []
        for record in records:
            try:
                halves.append((record, half_of(definition, record)))
            except ValueError:
                fold.skipped += 1
        answers = iter(self._answers(view, place, [half for _, half in halves]))
        for record, half in halves:
            batch = None if half.row is None else next(answers)
            try:
                drift = layer.take(half, batch, judged)
            except ValueError:
                fold.skipped += 1
                continue
            if drift is not None:
                fold.drifts.append({"offset": record.offset, "direction": drift})
        return fold

    def _answers(
        self, view: LambdaView, place: Place, halves: Sequence[Half]
    ) -> Sequence[Answer | None]:
        rows = [half.row for half in halves if half.row is not None]
        if not rows:
            return []
        with self._database.read() as session:
            training = training_of(session, place.view_id, place.number)
        if training is None:
            return [None] * len(rows)
        model = BatchModel(self._predictions, training, self._most_rows)
        return model.foretold(call_of(view), rows)

    def _enter(self, session: Session, place: Place, offset: int, fold: _Fold) -> bool:
        key = (place.view_id, place.number, place.partition)
        state = session.get(SpeedState, key, with_for_update=True)
        if state is None or state.offset != offset:
            return False
        content = fold.layer.state()
        session.merge(ViewModelState(**vars(place), state=content))
        state.offset = fold.end
        state.records += fold.records
        state.skipped += fold.skipped
        state.digest = hashlib.sha256(content).hexdigest()
        state.moved_at = self._clock.now()
        return True

    def _tell(self, session: Session, view: LambdaView, place: Place, fold: _Fold) -> None:
        """Add to the view's metrics, and tell of drifts."""
        key = (place.view_id, place.partition)
        row = session.get(ViewModelTotals, key)
        if row is None:
            row = ViewModelTotals(view_id=place.view_id, partition=place.partition, drifts=0)
            session.add(row)
        known = row.metrics or {}
        for name, found in fold.judged.items():
            if name in known:
                before = Prequential.of(known[name])
                before.include(found)
                fold.judged[name] = before
        row.metrics = {name: found.as_dict() for name, found in fold.judged.items()}
        for drift in fold.drifts:
            row.drifts += 1
            row.drifted_at = self._clock.now()
            change = Change(session, call_of(view), "streams")
            told = {"view": view.name, "partition": place.partition, **drift}
            change.record("lambda-view.drifted", view.subject, told)


def training_of(session: Session, view_id: str, number: int) -> Mapping[str, Any] | None:
    """How a batch was made; None for the batch of no records."""
    query = select(ViewBatch.training)
    return session.scalar(query.where(ViewBatch.view_id == view_id, ViewBatch.number == number))


def call_of(view: LambdaView) -> Call:
    """In whose name the speed layer of a view asks."""
    return Call(view.project, "views", frozenset(), f"view-{view.id}", peer="streams")
