"""Answers of model views: the batch model's and the learners', merged.

The learners are read in one snapshot with the offsets that they have come to. A speed layer that
lags for longer than the view allows, or whose state can't be read, is left out: the answer is then
the batch model's alone, ``merge`` says ``batch``, and ``staleness_ms`` how old that is.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.errors import Conflict, FieldError, Invalid, NotFound, Unavailable
from app.kernel.sql import Database
from app.scoring.frame import as_text
from app.streams.learning.labelling import Row, Unreadable, plain_value
from app.streams.learning.merges import Answer
from app.streams.learning.prequential import Prequential
from app.streams.learning.speed_model import LAYERS, SpeedModel, answer
from app.streams.learning.tables import ViewModelState, ViewModelTotals
from app.streams.processors.ports import Predictions
from app.streams.views.answers import Answers, Lag, one_moment, states_of
from app.streams.views.batch_answers import BatchModel, answer_of
from app.streams.views.lookup import find_view
from app.streams.views.model_definition import ModelDefinition
from app.streams.views.model_speed import training_of
from app.streams.views.tables import MODEL, LambdaView, SpeedState

BATCH_ONLY, SPEED_ONLY = "batch", "speed"
_HELD: Final = 128
_MOST_FAULTS: Final = 50
log = structlog.get_logger("views")


@dataclass(frozen=True)
class _Layers:
    """A view with its speed states as of one moment; ``learners`` by partition."""

    view: LambdaView
    definition: ModelDefinition
    training: Mapping[str, Any] | None
    states: Sequence[SpeedState]
    learners: Mapping[int, SpeedModel]


class ModelAnswers:
    """Answers about rows, and tells how well the layers have foretold."""

    def __init__(
        self, database: Database, answers: Answers, predictions: Predictions, most_rows: int
    ) -> None:
        self._database = database
        self._answers = answers
        self._predictions = predictions
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int, int], tuple[int, SpeedModel]] = OrderedDict()

    def predict(
        self, call: Call, name: str, inputs: Sequence[Row], keys: Sequence[str] | None
    ) -> dict[str, Any]:
        """The merged answers to rows; ``keys`` say by which partition's learner each is corrected,
        else all learners answer together.

        Raises NotFound, Invalid for an input that the batch model refuses, Conflict before anything
        is known, Unavailable.
        """
        layers = self._layers(call, name)
        if keys is not None and len(keys) != len(inputs):
            raise Invalid.at("/keys", "wrong_length", "One key for each input")
        _refuse_faulty(inputs, layers.definition.reading.features)
        lag = self._answers.lag(layers.view, layers.states)
        outputs = self._batch(call, layers, inputs)
        late = lag.staleness_ms > layers.definition.stale_seconds * 1000
        learners = {} if late and outputs is not None else layers.learners
        if outputs is None and not any(one.learner.learnt for one in learners.values()):
            raise Conflict("There is no batch yet, and nothing has been learnt from the records")
        merged = [
            self._one(
                layers, learners, row, None if outputs is None else outputs[at], _at(keys, at)
            )
            for at, row in enumerate(inputs)
        ]
        if outputs is None:
            merge = SPEED_ONLY
        else:
            merge = layers.definition.spec.merge if learners else BATCH_ONLY
        return {"outputs": merged, **self._position(layers, lag), "merge": merge}

    def _one(
        self,
        layers: _Layers,
        learners: Mapping[int, SpeedModel],
        row: Row,
        output: Mapping[str, Any] | None,
        key: str | None,
    ) -> dict[str, Any]:
        some = list(learners.values())
        if key is not None and some:
            own = learners.get(crc32(key.encode()) % len(layers.states))
            some = [] if own is None else [own]
        batch = None if output is None else answer_of(output)
        told = answer(some, row, batch)
        if output is not None and (told is batch or told is None):
            return dict(output)
        return _told(told, output, some)

    def _batch(
        self, call: Call, layers: _Layers, inputs: Sequence[Row]
    ) -> Sequence[Mapping[str, Any]] | None:
        if layers.training is None:
            return None
        features = layers.definition.reading.features
        model = BatchModel(self._predictions, layers.training, self._most_rows)
        try:
            return model.outputs(
                call, [{name: row.get(name) for name in features} for row in inputs]
            )
        except NotFound as error:
            raise Unavailable("The model version of the batch is no more") from error

    def _layers(self, call: Call, name: str) -> _Layers:
        with one_moment(self._database) as session:
            view = find_view(session, call, name)
            if view.kind != MODEL:
                raise Conflict(
                    f"The view {view.name} is of the kind {view.kind}: it foretells nothing"
                )
            states = states_of(session, view)
            training = training_of(session, view.id, view.serving_number)
            learners = {state.partition: self._learner(session, state) for state in states}
        known = {partition: one for partition, one in learners.items() if one is not None}
        return _Layers(view, ModelDefinition.of(view.definition), training, states, known)

    def _learner(self, session: Session, state: SpeedState) -> SpeedModel | None:
        """The learner of a state; None where nothing was learnt, or its bytes are no state."""
        place = (state.view_id, state.number, state.partition)
        with self._lock:
            held = self._held.get(place)
        if held is not None and held[0] == state.offset:
            return held[1]
        row = session.get(ViewModelState, place)
        if row is None:
            return None
        try:
            learner = SpeedModel.restored(row.state)
        except (ValueError, KeyError, TypeError):
            log.exception("learner_unreadable", place=place)
            return None
        with self._lock:
            self._held[place] = (state.offset, learner)
            self._held.move_to_end(place)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        return learner

    def _position(self, layers: _Layers, lag: Lag) -> dict[str, Any]:
        view = layers.view
        training = layers.training
        return {
            "view": view.name,
            "batch_version": view.serving_number,
            "batch_model": None
            if training is None
            else f"{training['model']}/{training['model_version']}",
            "batch_offsets": view.serving_offsets,
            "speed_offsets": {str(state.partition): state.offset for state in layers.states},
            "behind": lag.behind,
            "staleness_ms": lag.staleness_ms,
        }

    def metrics(self, call: Call, name: str) -> dict[str, Any]:
        """How each layer has foretold, since the view was made and since its batch."""
        layers = self._layers(call, name)
        with self._database.read() as session:
            query = select(ViewModelTotals).where(ViewModelTotals.view_id == layers.view.id)
            totals = list(session.scalars(query))
        task = layers.definition.spec.online.task
        learners = layers.learners
        return {
            "view": name,
            "task": task,
            "batch_version": layers.view.serving_number,
            "in_all": _summed(task, [_read(row.metrics) for row in totals]),
            "since_batch": _summed(task, [one.metrics for one in learners.values()]),
            "drifts": sum(row.drifts for row in totals),
            "drifted_at": max((r.drifted_at for r in totals if r.drifted_at), default=None),
            "partitions": [
                {
                    "partition": state.partition,
                    "offset": state.offset,
                    "learnt": learners[state.partition].learner.learnt,
                    "since_batch": learners[state.partition].since,
                    "waiting": len(learners[state.partition].halves),
                    "dropped": learners[state.partition].halves.dropped,
                    "hedge_weight": learners[state.partition].hedge.weight,
                    "digest": state.digest,
                }
                for state in layers.states
                if state.partition in learners
            ],
        }


def _refuse_faulty(inputs: Sequence[Row], features: Sequence[str]) -> None:
    """Raise Invalid for what is no feature, and for values that no learner takes."""
    faults = [
        FieldError(f"/inputs/{at}/{name}", *why)
        for at, row in enumerate(inputs)
        for name, value in row.items()
        if (why := _fault(name, value, features)) is not None
    ]
    if faults:
        raise Invalid("Some inputs can't be answered", errors=faults[:_MOST_FAULTS])


def _fault(name: str, value: Any, features: Sequence[str]) -> tuple[str, str] | None:
    if name not in features:
        return "unknown_column", "The view has no such feature"
    try:
        plain_value(name, value)
    except Unreadable as error:
        return "type", str(error)
    return None


def _at(keys: Sequence[str] | None, place: int) -> str | None:
    return None if keys is None else keys[place]


def _read(told: Mapping[str, Any]) -> dict[str, Prequential]:
    return {name: Prequential.of(found) for name, found in told.items()}


def _summed(task: str, parts: Sequence[Mapping[str, Prequential]]) -> dict[str, Any]:
    """The metrics of each layer over all partitions."""
    told = {}
    for layer in LAYERS:
        total = Prequential(task)
        for part in parts:
            total.include(part[layer])
        told[layer] = total.metrics()
    return told


def _told(
    told: Answer | None, output: Mapping[str, Any] | None, learners: Sequence[SpeedModel]
) -> dict[str, Any]:
    """An answer as the predictions service would tell it, with the labels as they were sent."""
    if not isinstance(told, Mapping):
        return {"value": told}
    text = max(told, key=told.__getitem__)
    labels = {as_text(label): label for one in learners for label in one.learner.classes}
    if output is not None:
        labels[as_text(output["label"])] = output["label"]
    return {"label": labels.get(text, text), "probabilities": dict(told)}
