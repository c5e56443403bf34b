"""Predictions of single rows: stored and unstored."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, delete, exists, select, tuple_

from app.kernel.auth import Call
from app.kernel.changes import Changes, Made, Told
from app.kernel.errors import Invalid, NotFound
from app.kernel.group_commit import GroupCommit
from app.kernel.http.pagination import Listing, Page
from app.kernel.retention import BATCH, PAUSE_SECONDS, drop_some
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id, utc_now
from app.predictions.directory import Directory, Reference
from app.predictions.engine import Engine
from app.predictions.inputs import read_rows
from app.predictions.tables import KnownModel, Prediction, subject_of
from app.scoring.frame import Column
from app.scoring.scores import Scores

PREDICTIONS = Listing(
    "Predictions",
    {
        "created_at": Prediction.created_at,
        "model": Prediction.model,
        "version": Prediction.version,
        "engine": Prediction.engine,
    },
    order=("created_at",),
    identity=Prediction.id,
)


class Predicted(msgspec.Struct, frozen=True):
    """An answer that isn't stored."""

    model: str
    version: int
    engine: str
    outputs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PredictedArrays:
    """An answer that isn't stored, in arrays."""

    model: str
    version: int
    engine: str
    scores: Scores


ReadRows = Callable[[Sequence[Mapping[str, Any]], int], Mapping[str, Column]]


class Predictions:
    """What a client can do with predictions."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        directory: Directory,
        engine: Engine,
        most_rows: int,
    ) -> None:
        self._database = database
        self._changes = Changes(database, "predictions")
        self._kept = GroupCommit(partial(self._changes.make, Prediction))
        self._ring = ring
        self._directory = directory
        self._engine = engine
        self._most_rows = most_rows

    def predict(self, call: Call, reference: Reference, body: Mapping[str, Any]) -> Predicted:
        """Score a request's rows; raises NotFound, Invalid, TooLarge, Unavailable, and
        ArtifactCorrupt for a version whose bytes are wrong.
        """

        def score(location: Mapping[str, Any]) -> Predicted:
            columns, _ = read_rows(body, location["signature"]["inputs"], self._most_rows)
            answered = self._engine.score(location, columns, deadline=call.deadline)
            outputs = answered.only(body.get("include"))
            return Predicted(reference.model, location["version"], answered.engine, outputs)

        return self._directory.use(call, reference, score)

    def predict_in_arrays(
        self, call: Call, reference: Reference, read: ReadRows
    ) -> PredictedArrays:
        """Score the rows that ``read`` reads by a signature's inputs; raises what it and
        ``predict`` raise.
        """

        def score(location: Mapping[str, Any]) -> PredictedArrays:
            columns = read(location["signature"]["inputs"], self._most_rows)
            engine, scores = self._engine.score_in_arrays(location, columns, deadline=call.deadline)
            return PredictedArrays(reference.model, location["version"], engine, scores)

        return self._directory.use(call, reference, score)

    def create(self, call: Call, body: Mapping[str, Any]) -> Prediction:
        """Score rows and keep inputs and outputs: durable when this returns."""
        try:
            predicted = self.predict(call, Reference.parse(body["model"]), body)
        except NotFound as error:
            raise Invalid.at("/model", "unknown_model", error.detail) from error
        made = self.keep(call, predicted, _as_objects(body))
        return Prediction(**made.values)

    def keep(self, call: Call, predicted: Predicted, inputs: Sequence[Mapping[str, Any]]) -> Made:
        """Keep an answer with its inputs: durable when this returns."""
        now, row_id = utc_now(), new_id()
        values = {
            "id": row_id,
            "project": call.project,
            "row_version": 1,
            "created_at": now,
            "updated_at": now,
            "model": predicted.model,
            "version": predicted.version,
            "engine": predicted.engine,
            "rows": len(predicted.outputs),
            "inputs_json": msgspec.json.encode(inputs).decode(),
            "outputs_json": msgspec.json.encode(predicted.outputs).decode(),
        }
        data = {name: values[name] for name in ("model", "version", "rows")}
        made = Made(call, values, Told("prediction.created", subject_of(row_id), data))
        self._kept.put(made, call.remaining())
        return made

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[Prediction]:
        """The project's stored predictions."""
        query = select(Prediction).where(Prediction.project == call.project)
        with self._database.read() as session:
            return PREDICTIONS.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, prediction_id: str) -> Prediction:
        """One stored prediction; raises NotFound."""
        with self._database.read() as session:
            row = session.scalar(
                select(Prediction).where(
                    Prediction.project == call.project, Prediction.id == prediction_id
                )
            )
        if row is None:
            raise NotFound(f"There is no prediction {prediction_id}")
        return row

    def delete(self, call: Call, prediction_id: str) -> None:
        """Forget one stored prediction."""
        with self._changes.begin(call) as change:
            row = change.session.scalar(
                select(Prediction)
                .where(Prediction.project == call.project, Prediction.id == prediction_id)
                .with_for_update()
            )
            if row is None:
                raise NotFound(f"There is no prediction {prediction_id}")
            change.guard(row)
            change.record("prediction.deleted", row.subject, {"model": row.model})
            change.session.delete(row)

    def delete_all(self, call: Call, arguments: Mapping[str, Any]) -> int:
        """Forget the predictions that the filters name; their count. Raises Invalid without one."""
        conditions = PREDICTIONS.conditions(arguments)
        if not conditions:
            raise Invalid("Name what to delete by a filter, such as created_at__lt")
        with self._changes.begin(call) as change:
            done = change.session.execute(
                delete(Prediction).where(Prediction.project == call.project, *conditions)
            )
            count = int(getattr(done, "rowcount", 0))
            change.record("predictions.deleted", "predictions", {"count": count})
        return count

    def sweep(self, now: datetime) -> int:
        """Forget what the models' retention no longer keeps; the count."""
        has_some = exists().where(
            Prediction.project == KnownModel.project, Prediction.model == KnownModel.model
        )
        with self._database.read() as session:
            query = select(KnownModel.project, KnownModel.model).where(has_some)
            models = session.execute(query).all()
        return sum(self._retain(project, model, now) for project, model in models)

    def _retain(self, project: str, model: str, now: datetime) -> int:
        retention = self._directory.retention(project, model)
        mine = (Prediction.project == project, Prediction.model == model)
        dropped = 0
        if retention.get("max_age_days") is not None:
            oldest = now - timedelta(days=retention["max_age_days"])
            dropped += self._forget(project, model, *mine, Prediction.created_at < oldest)
        if retention.get("max_rows") is not None:
            newest = (
                select(Prediction.created_at, Prediction.id)
                .where(*mine)
                .order_by(Prediction.created_at.desc(), Prediction.id.desc())
                .offset(retention["max_rows"])
                .limit(1)
            )
            with self._database.read() as session:
                first = session.execute(newest).first()
            if first is not None:
                place = tuple_(Prediction.created_at, Prediction.id)
                dropped += self._forget(project, model, *mine, place <= tuple(first))
        return dropped

    def _forget(self, project: str, model: str, *which: ColumnElement[bool]) -> int:
        """Drop predictions whose time is over, and say so."""
        dropped = 0
        while True:
            call = Call(project, "retention", frozenset(), f"retention-{new_id()}")
            with self._changes.begin(call) as change:
                count = drop_some(change.session, Prediction, Prediction.id, *which)
                if count:
                    told = {"model": model, "count": count, "reason": "retention"}
                    change.record("predictions.deleted", "predictions", told)
            dropped += count
            if count < BATCH:
                return dropped
            time.sleep(PAUSE_SECONDS)


def _as_objects(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if "inputs" in body:
        return list(body["inputs"])
    return [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]
