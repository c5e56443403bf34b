"""``/batch-predictions`` and what hangs below it."""

from typing import Any, cast

from flask import current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.accepting import accepted_type
from app.kernel.http.api import current_call
from app.kernel.http.downloads import BINARY, sent
from app.kernel.http.spec import PART_OF_FILE, RANGE, WHOLE_FILE, Action
from app.kernel.long_work.views import (
    EVENTS_DOC,
    EventQuery,
    WaitQuery,
    WorkEventList,
    events_answer,
    watched,
)
from app.predictions import schemas
from app.predictions.batches import BATCHES, BatchPredictions
from app.predictions.resources import blp

__all__ = ["blp"]

_BATCH = {"model": "penguins@champion", "dataset": "penguins", "dataset_version": 1}
_PARQUET = "application/vnd.apache.parquet"
_AS_CSV: dict[str, Any] = {
    "schema": {"type": "string"},
    "content_type": "text/csv",
    "example": "island,prediction\nBiscoe,Gentoo\n",
}
_AS_PARQUET: dict[str, Any] = {"schema": BINARY, "content_type": _PARQUET, "example": "PAR1.."}
_FORMATS = {"text/csv": "csv", _PARQUET: "parquet"}


def _batches() -> BatchPredictions:
    return cast("BatchPredictions", current_app.extensions["batches"])


@blp.route("/api/v1/batch-predictions")
class BatchPredictionCollection(MethodView):
    """The project's batch predictions."""

    @secured("predictions:read")
    @blp.doc(operationId="listBatchPredictions")
    @blp.arguments(BATCHES.schema(), location="query")
    @blp.response(200, schemas.BatchPredictionList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List batch predictions"""
        return _batches().list(current_call(), arguments)

    @secured("predictions:write")
    @blp.doc(operationId="createBatchPrediction")
    @blp.arguments(schemas.BatchPredictionIn, example=_BATCH)
    @blp.creates(202, schemas.BatchPredictionOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Predict all rows of a dataset version"""
        return _batches().create(current_call(), body)


@blp.route("/api/v1/batch-predictions/<id:batch>")
class BatchPrediction(MethodView):
    """One batch prediction."""

    @secured("predictions:read")
    @blp.arguments(WaitQuery, location="query")
    @blp.response(200, schemas.BatchPredictionOut)
    def get(self, arguments: dict[str, Any], batch: str) -> Any:
        """Get a batch prediction

        With `wait`, as soon as it changes; at once if it has ended.
        """
        return watched(_batches(), batch, arguments["wait"])

    @secured("predictions:write")
    @blp.arguments(schemas.BatchPredictionUpdate, example={"tags": {"purpose": "demo"}})
    @blp.response(200, schemas.BatchPredictionOut)
    def patch(self, body: dict[str, Any], batch: str) -> Any:
        """Replace a batch prediction's tags"""
        return _batches().update(current_call(), batch, body["tags"])

    @secured("predictions:write")
    @blp.response(204)
    def delete(self, batch: str) -> None:
        """Delete a batch prediction that has ended, with its content"""
        _batches().delete(current_call(), batch)


@blp.route("/api/v1/batch-predictions/<id:batch>/cancel")
class CancelBatchPrediction(Action):
    """The end of a batch before its time."""

    @secured("predictions:write")
    @blp.creates(202, schemas.BatchPredictionOut)
    def post(self, batch: str) -> Any:
        """Cancel a batch prediction"""
        return _batches().cancel(current_call(), batch)


@blp.route("/api/v1/batch-predictions/<id:batch>/events")
class BatchPredictionEvents(MethodView):
    """What happened to a batch prediction."""

    @secured("predictions:read")
    @blp.doc(operationId="listBatchPredictionEvents", **EVENTS_DOC)
    @blp.arguments(EventQuery, location="query")
    @blp.response(200, WorkEventList)
    def get(self, arguments: dict[str, Any], batch: str) -> Any:
        """List a batch prediction's events, or follow them as a stream"""
        # A stream outlives the request's context: what it needs is looked up here.
        call, batches = current_call(), _batches()
        return events_answer(
            lambda after: batches.events(batch, after),
            lambda: batches.get(call, batch),
            arguments["after"],
        )


@blp.route("/api/v1/batch-predictions/<id:batch>/content")
class BatchPredictionContent(MethodView):
    """The result of a batch prediction."""

    @secured("predictions:read")
    @blp.doc(parameters=[RANGE])
    @blp.response(200, **_AS_CSV, headers=WHOLE_FILE)
    @blp.alt_response(200, **_AS_PARQUET, headers=WHOLE_FILE, success=True)
    @blp.alt_response(206, **_AS_CSV, headers=PART_OF_FILE, success=True)
    @blp.alt_response(206, **_AS_PARQUET, headers=PART_OF_FILE, success=True)
    @blp.alt_response(406, "NotAcceptable")
    @blp.alt_response(409, "Conflict")
    @blp.alt_response(416, "RangeNotSatisfiable")
    def get(self, batch: str) -> Any:
        """Get the rows of the dataset in order, with the outputs beside them

        As CSV or Parquet, by `Accept`; Range is honoured. In CSV values stand as they are: to a
        spreadsheet, texts that begin with `=`, `+`, `-` or `@` are formulas.
        """
        call = current_call()
        _batches().get(call, batch)
        accepted = accepted_type(list(_FORMATS))
        answer = sent(_batches().content(call, batch, _FORMATS[accepted]), accepted)
        answer.vary.add("Accept")
        return answer
