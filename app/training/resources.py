"""``/estimators``, ``/training-runs`` and ``/references/training``."""

import json
from typing import Any, cast

from flask import Response, current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.spec import Action
from app.kernel.long_work.views import (
    EVENTS_DOC,
    EventQuery,
    WaitQuery,
    WorkEventList,
    events_answer,
    watched,
)
from app.kernel.references import ReferenceList, ReferenceQuery
from app.training import schemas
from app.training.service import RUNS, TrainingRuns

blp = Blueprint("training", __name__, description="What can be trained, and the runs that do it.")

_RUN = {
    "model": "penguins",
    "dataset": "penguins",
    "target": "species",
    "estimator": {"name": "RandomForestClassifier", "params": {"n_estimators": 200}},
    "validation": {"method": "holdout", "test_fraction": 0.2},
}


def _runs() -> TrainingRuns:
    return cast("TrainingRuns", current_app.extensions["training"])


@blp.route("/api/v1/estimators")
class Estimators(MethodView):
    """The catalogue."""

    @secured("models:read")
    @blp.arguments(schemas.EstimatorQuery, location="query")
    @blp.response(200, schemas.EstimatorList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List what can be trained, with the parameters of each"""
        entries = _runs().catalog.list(arguments["task"], arguments["role"])
        return {"items": [entry.as_dict() for entry in entries], "next_page_token": None}


@blp.route("/api/v1/estimators/<string(maxlength=100):name>")
class Estimator(MethodView):
    """One entry of the catalogue."""

    @secured("models:read")
    @blp.response(200, schemas.EstimatorOut)
    def get(self, name: str) -> Any:
        """Get an estimator and the JSON Schema of its parameters"""
        return _runs().catalog.get(name).as_dict()


@blp.route("/api/v1/training-runs")
class TrainingRunCollection(MethodView):
    """The project's runs."""

    @secured("runs:read")
    @blp.doc(operationId="listTrainingRuns")
    @blp.arguments(RUNS.schema(), location="query")
    @blp.response(200, schemas.TrainingRunList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List training runs"""
        return _runs().list(current_call(), arguments)

    @secured("runs:write")
    @blp.doc(operationId="createTrainingRun")
    @blp.arguments(schemas.TrainingRunIn, example=_RUN)
    @blp.arguments(schemas.TrainingRunQuery, location="query")
    @blp.alt_response(200, schema=schemas.TrainingPlan, success=True)
    @blp.creates(202, schemas.TrainingRunOut)
    def post(self, body: dict[str, Any], arguments: dict[str, Any]) -> Any:
        """Train a model

        Accepted at once; poll the run (`?wait=20`), or read its events. With
        `validate_only=true` nothing is run: the answer tells what would be.
        """
        if arguments["validate_only"]:
            plan = _runs().plan(current_call(), body)
            return Response(
                json.dumps(schemas.TrainingPlan().dump(plan.as_dict())),
                content_type="application/json",
            )
        return _runs().create(current_call(), body)


@blp.route("/api/v1/training-runs/<id:run>")
class TrainingRunItem(MethodView):
    """One run."""

    @secured("runs:read")
    @blp.doc(operationId="getTrainingRun")
    @blp.arguments(WaitQuery, location="query")
    @blp.response(200, schemas.TrainingRunOut)
    def get(self, arguments: dict[str, Any], run: str) -> Any:
        """Get a run

        With `wait`, as soon as it changes; at once if it has ended.
        """
        return watched(_runs(), run, arguments["wait"])

    @secured("runs:write")
    @blp.doc(operationId="updateTrainingRun")
    @blp.arguments(schemas.TrainingRunUpdate, example={"tags": {"purpose": "demo"}})
    @blp.response(200, schemas.TrainingRunOut)
    def patch(self, body: dict[str, Any], run: str) -> Any:
        """Replace a run's tags"""
        return _runs().update(current_call(), run, body["tags"])

    @secured("runs:write")
    @blp.doc(operationId="deleteTrainingRun")
    @blp.response(204)
    def delete(self, run: str) -> None:
        """Delete a run that has ended, with its events and log"""
        _runs().delete(current_call(), run)


@blp.route("/api/v1/training-runs/<id:run>/cancel")
class CancelTrainingRun(Action):
    """The end of a run before its time."""

    @secured("runs:write")
    @blp.creates(202, schemas.TrainingRunOut)
    def post(self, run: str) -> Any:
        """Cancel a run"""
        return _runs().cancel(current_call(), run)


@blp.route("/api/v1/training-runs/<id:run>/events")
class TrainingRunEvents(MethodView):
    """What happened to a run."""

    @secured("runs:read")
    @blp.doc(operationId="listTrainingRunEvents", **EVENTS_DOC)
    @blp.arguments(EventQuery, location="query")
    @blp.response(200, WorkEventList)
    def get(self, arguments: dict[str, Any], run: str) -> Any:
        """List a run's events, or follow them as a stream

        With `Accept: text/event-stream` the events come as they happen, until the run has ended
        or a minute is over; a client resumes by `Last-Event-ID`.
        """
        # A stream outlives the request's context: what it needs is looked up here.
        call, runs = current_call(), _runs()
        return events_answer(
            lambda after: runs.events(run, after),
            lambda: runs.get(call, run),
            arguments["after"],
        )


@blp.route("/api/v1/training-runs/<id:run>/log")
class TrainingRunLog(MethodView):
    """What a run's process printed."""

    @secured("runs:read")
    @blp.response(200, {"type": "string"}, content_type="text/plain", example="Fitting 3 folds\n")
    def get(self, run: str) -> Any:
        """Get what a run's process has printed"""
        return Response(_runs().log(current_call(), run), content_type="text/plain; charset=utf-8")


@blp.route("/api/v1/references/training", tags=["peers"])
class TrainingReferences(MethodView):
    """What of this service refers to others' things."""

    @secured("references:read")
    @blp.arguments(ReferenceQuery, location="query")
    @blp.response(200, ReferenceList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List the runs that need a dataset or a model (peers only)"""
        return {"items": _runs().references(current_call(), **arguments)}
