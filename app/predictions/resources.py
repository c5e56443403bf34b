"""``/predictions``, ``/models/{model}/predict`` and ``/references/predictions``."""

import re
from typing import Any, Final, cast

from flask import current_app, request
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.accepting import accepted_type
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.spec import Action
from app.kernel.references import ReferenceList, ReferenceQuery
from app.predictions import schemas
from app.predictions.batches import BatchPredictions
from app.predictions.directory import Reference
from app.predictions.media_types import JSON, OFFERED
from app.predictions.service import PREDICTIONS, Predictions
from app.predictions.table_resources import (
    ARROW_ANSWER,
    CSV_ANSWER,
    answer_of,
    body_document,
    is_json,
    reader_of,
    table_reader,
)

blp = Blueprint(
    "predictions", __name__, description="Predictions: stored, unstored, over whole datasets."
)

# The paths whose POSTs take one of the places for predictions.
ADMITTED: Final = re.compile(r"/api/v1/(models/[^/]+/predict|predictions)")
PREDICT_RULE: Final = "/api/v1/models/<name:model>/predict"
PREDICT_ENDPOINT: Final = "predictions.Predict"
STORE_RULE: Final = "/api/v1/predictions"
STORE_ENDPOINT: Final = "predictions.PredictionCollection"
EXAMPLE_ROW: Final = {
    "island": "Biscoe",
    "bill_length_mm": 46.1,
    "bill_depth_mm": 13.2,
    "flipper_length_mm": 211,
    "body_mass_g": 4500,
    "sex": "female",
    "year": 2007,
}
_ROWS = {"inputs": [EXAMPLE_ROW]}
_COLUMNS = {"columns": list(EXAMPLE_ROW), "rows": [list(EXAMPLE_ROW.values())]}


def _examples(**more: Any) -> dict[str, Any]:
    return {
        "objects": {"summary": "A row is an object", "value": {**more, **_ROWS}},
        "arrays": {"summary": "A row is an array", "value": {**more, **_COLUMNS}},
    }


def _predictions() -> Predictions:
    return cast("Predictions", current_app.extensions["predictions"])


@blp.route(STORE_RULE)
class PredictionCollection(MethodView):
    """The project's stored predictions."""

    @secured("predictions:read")
    @blp.doc(operationId="listPredictions")
    @blp.arguments(PREDICTIONS.schema(), location="query")
    @blp.response(200, schemas.PredictionList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List stored predictions"""
        return _predictions().list(current_call(), arguments)

    @secured("predictions:write")
    @blp.doc(operationId="createPrediction")
    @blp.arguments(schemas.PredictionIn, examples=_examples(model="penguins"))
    @blp.creates(201, schemas.PredictionOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Predict, and keep inputs and outputs

        Both are durable when the answer is sent.
        """
        return _predictions().create(current_call(), body)

    @secured("predictions:write")
    @blp.doc(operationId="deletePredictions")
    @blp.arguments(PREDICTIONS.schema(), location="query")
    @blp.response(200, schemas.DeletedOut)
    def delete(self, arguments: dict[str, Any]) -> Any:
        """Delete the stored predictions that the filters name; at least one filter is needed"""
        return {"deleted": _predictions().delete_all(current_call(), arguments)}


@blp.route("/api/v1/predictions/<id:prediction>")
class Prediction(MethodView):
    """One stored prediction."""

    @secured("predictions:read")
    @blp.response(200, schemas.PredictionOut)
    def get(self, prediction: str) -> Any:
        """Get a stored prediction"""
        return _predictions().get(current_call(), prediction)

    @secured("predictions:write")
    @blp.response(204)
    def delete(self, prediction: str) -> None:
        """Delete a stored prediction"""
        _predictions().delete(current_call(), prediction)


@blp.route(PREDICT_RULE)
class Predict(Action):
    """The hot path."""

    @secured("predictions:write")
    @blp.doc(requestBody=body_document(_examples()))
    @blp.arguments(schemas.PredictQuery, location="query")
    @blp.response(200, schemas.PredictOut)
    @blp.alt_response(200, **ARROW_ANSWER)
    @blp.alt_response(200, **CSV_ANSWER)
    @blp.alt_response(406, "NotAcceptable")
    def post(self, arguments: dict[str, Any], model: str) -> Any:
        """Predict without keeping anything

        By the version or alias given, else by the alias champion, else by the newest version.
        Rows come as JSON, Arrow or CSV by `Content-Type`, outputs go by `Accept`, in any
        combination. In Arrow and CSV the outputs are columns, named as those of a batch.
        """
        reference = Reference(model, arguments["alias"], arguments["version"])
        predictions, call = _predictions(), current_call()
        wanted = accepted_type(OFFERED)
        if not is_json():
            predicted = predictions.predict_in_arrays(call, reference, table_reader())
            return answer_of(predicted, wanted)
        body = blp.ARGUMENTS_PARSER.parse(schemas.PredictIn(), request, location="json")
        if wanted == JSON:
            return predictions.predict(call, reference, body)
        predicted = predictions.predict_in_arrays(call, reference, reader_of(body))
        return answer_of(predicted, wanted, body.get("include"))


@blp.route("/api/v1/references/predictions", tags=["peers"])
class PredictionReferences(MethodView):
    """What of this service refers to others' things."""

    @secured("references:read")
    @blp.arguments(ReferenceQuery, location="query")
    @blp.response(200, ReferenceList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List the batch predictions that need a dataset or a model (peers only)"""
        batches = cast("BatchPredictions", current_app.extensions["batches"])
        return {"items": batches.references(current_call(), **arguments)}
