"""What only model views offer: answers about rows, and how well they foretell."""

from typing import Any, cast

from flask import current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.spec import Action
from app.streams.views import model_schemas as schemas
from app.streams.views.model_answers import ModelAnswers

blp = Blueprint(
    "model-views",
    __name__,
    service="streams",
    description="Answers of a trained model merged with those of a learner that follows a topic.",
)

_INPUTS = {"inputs": [{"origin": "EWR", "dest": "ORD", "carrier": "UA", "hour": 18}]}


def _answers() -> ModelAnswers:
    return cast("ModelAnswers", current_app.extensions["model_answers"])


@blp.route("/api/v1/lambda-views/<name:view>/predictions")
class ViewPredictions(Action):
    """The merged answers of a model view."""

    @secured("predictions:write")
    @blp.arguments(schemas.ViewPredictionsIn, example=_INPUTS)
    @blp.response(200, schemas.ViewPredictionsOut)
    @blp.alt_response(409, "Conflict")
    def post(self, body: dict[str, Any], view: str) -> Any:
        """Ask a model view about rows

        The answer says of which batch it is, how far the learners have come, and how they were
        merged. 409 before there is a batch or a label to learn from. Nothing is stored.
        """
        return _answers().predict(current_call(), view, body["inputs"], body["keys"])


@blp.route("/api/v1/lambda-views/<name:view>/metrics")
class ViewMetrics(MethodView):
    """How well a model view foretells."""

    @secured("topics:read")
    @blp.response(200, schemas.ViewMetrics)
    def get(self, view: str) -> Any:
        """Get how well the trained model, the learners and their merge have foretold

        Each answer was given before its label was known to whoever gave it.
        """
        return _answers().metrics(current_call(), view)
