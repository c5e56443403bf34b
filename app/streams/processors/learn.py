"""The kind ``learn``: an incremental learner that is judged on each record before it learns.

A record brings a row of features, its label, or both; rows and labels meet by an id. The output has
what the learner foretold of each row when it came. Each partition has a learner of its own, a pure
fold of the partition's records: the same records give the same state, to the byte.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session

from app.kernel.changes import Change
from app.kernel.log.seam import NewRecord, Record
from app.kernel.sql import Database
from app.scoring.online import OnlineSpec
from app.streams.learning.labelling import Half, Reading
from app.streams.learning.merges import Answer
from app.streams.learning.speed_model import SpeedModel, SpeedSpec
from app.streams.learning.tables import LearnerState
from app.streams.processors.handling import Outcome, Share
from app.streams.processors.values import Refused, json_object

_MOST: Final = 500


def reading_of(config: Mapping[str, Any]) -> Reading:
    """How a configuration says that records are read."""
    return Reading(tuple(config["features"]), config["target"], config["id_field"])


def spec_of(config: Mapping[str, Any]) -> SpeedSpec:
    """What a configuration says is learnt."""
    online = OnlineSpec(
        config["task"],
        tuple(config["features"]),
        frozenset(config["categories"]),
        config["learning_rate"],
    )
    return SpeedSpec(online)


class Learning:
    """Learns from records."""

    most = _MOST

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, share: Share) -> "LearnHandler":
        """A handler that goes on with what was learnt."""
        with self._database.read() as session:
            row = session.get(LearnerState, (share.processor, share.partition))
            state = None if row is None else row.state
        layer = SpeedModel(spec_of(share.config)) if state is None else SpeedModel.restored(state)
        return LearnHandler(share, layer)


class LearnHandler:
    """The learner of one partition."""

    def __init__(self, share: Share, layer: SpeedModel) -> None:
        self._share = share
        self._layer = layer
        self._reading = reading_of(share.config)
        self._drifts: list[dict[str, Any]] = []

    def handle(self, records: Sequence[Record]) -> Outcome:
        """Judge and learn, record by record."""
        outcome = Outcome(taken=len(records))
        for record in records:
            try:
                half = self._half(record)
                foretold = None if half.row is None else self._layer.learner.predict_one(half.row)
                drift = self._layer.take(half)
            except Refused as error:
                outcome.refused.append((record, error))
                continue
            except ValueError as error:
                outcome.refused.append((record, Refused("not_learnable", str(error))))
                continue
            if half.row is not None:
                outcome.outputs.append(self._output(record, half, foretold))
            if drift is not None:
                self._drifts.append({**self._share.place(record), "direction": drift})
        return outcome

    def _half(self, record: Record) -> Half:
        return self._reading.of(json_object(record.value), record.id)

    def _output(self, record: Record, half: Half, foretold: Answer | None) -> NewRecord:
        told = {
            "id": half.id,
            **answer_of(foretold),
            "learnt": self._layer.learner.learnt,
            "source": self._share.place(record),
        }
        headers = {"content-type": "application/json"}
        return NewRecord(json.dumps(told).encode(), key=record.key, headers=headers)

    def keep(self, session: Session) -> None:
        """Write what was learnt, and an event of each drift."""
        share = self._share
        session.merge(
            LearnerState(
                processor=share.processor,
                partition=share.partition,
                learnt=self._layer.learner.learnt,
                state=self._layer.state(),
            )
        )
        for drift in self._drifts:
            change = Change(session, share.call, "streams")
            told = {"processor": share.name, **drift}
            change.record("processor.drifted", f"processors/{share.name}", told)
        self._drifts = []

    def close(self) -> None:
        """Nothing is held outside of the database."""


def answer_of(foretold: Answer | None) -> dict[str, Any]:
    """An answer as JSON tells it."""
    if foretold is None:
        return {"prediction": None}
    if not isinstance(foretold, Mapping):
        return {"prediction": {"value": foretold}}
    label = max(foretold, key=foretold.__getitem__)
    return {"prediction": {"label": label, "probabilities": dict(foretold)}}
