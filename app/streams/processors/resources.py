"""``/processors`` and what lies below."""

from typing import Any, Final, cast

from flask import current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.streams.learning.schemas import LearnerOut
from app.streams.processors import schemas
from app.streams.processors.learners import Learners
from app.streams.processors.positions import Start
from app.streams.processors.service import PROCESSORS, Processors

blp = Blueprint(
    "processors",
    __name__,
    service="streams",
    description="What is done with each record of a topic, as it comes.",
)

_AGGREGATE: Final = {
    "window": {"size_seconds": 3600},
    "aggregates": {"mean_delay": {"function": "mean", "field": "delay"}},
    "time_field": "landed_at",
    "lateness_seconds": 600,
}
_PROCESSOR: Final = {
    "name": "delays",
    "kind": "aggregate",
    "topic": "flights",
    "output_topic": "delays-by-origin",
    "dead_letter_topic": "given-up",
    "aggregate": _AGGREGATE,
}


def _processors() -> Processors:
    return cast("Processors", current_app.extensions["processors"])


@blp.route("/api/v1/processors")
class ProcessorCollection(MethodView):
    """The project's processors."""

    @secured("topics:read")
    @blp.doc(operationId="listProcessors")
    @blp.arguments(PROCESSORS.schema(), location="query")
    @blp.response(200, schemas.ProcessorList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List processors, without how they get on"""
        return _processors().list(current_call(), arguments)

    @secured("topics:write")
    @blp.doc(operationId="createProcessor")
    @blp.arguments(schemas.ProcessorIn, example=_PROCESSOR)
    @blp.creates(201, schemas.ProcessorOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a processor

        Each record of `topic` takes effect once: outputs, dead letters, what is folded and how far
        it has read are kept together or not at all (`webhook` calls at least once).
        """
        return _processors().create(current_call(), body)


@blp.route("/api/v1/processors/<name:processor>")
class Processor(MethodView):
    """One processor."""

    @secured("topics:read")
    @blp.response(200, schemas.ProcessorOut)
    def get(self, processor: str) -> Any:
        """Get a processor, with its lag, rate, counts and last failure"""
        return _processors().get(current_call(), processor)

    @secured("topics:write")
    @blp.arguments(schemas.ProcessorPatch, example={"tries": 10})
    @blp.response(200, schemas.ProcessorOut)
    def patch(self, body: dict[str, Any], processor: str) -> Any:
        """Change a processor"""
        return _processors().update(current_call(), processor, body)

    @secured("topics:write")
    @blp.response(204)
    def delete(self, processor: str) -> None:
        """Delete a processor; what it has written stays"""
        _processors().remove(current_call(), processor)


@blp.route("/api/v1/processors/<name:processor>/learner")
class ProcessorLearner(MethodView):
    """What a processor has learnt."""

    @secured("topics:read")
    @blp.response(200, LearnerOut)
    @blp.alt_response(409, "Conflict")
    def get(self, processor: str) -> Any:
        """Get what a learning processor has learnt, and how well it foretells

        It is of the kind `learn`, and judged on each record before it learns from it. 409 for a
        processor of another kind.
        """
        learners = cast("Learners", current_app.extensions["learners"])
        return learners.get(current_call(), processor)


@blp.route("/api/v1/processors/<name:processor>/state")
class ProcessorState(MethodView):
    """Whether a processor runs."""

    @secured("topics:write")
    @blp.doc(operationId="setProcessorState")
    @blp.arguments(schemas.ProcessorStateIn, example={"state": "paused"})
    @blp.response(200, schemas.ProcessorOut)
    def put(self, body: dict[str, Any], processor: str) -> Any:
        """Pause a processor, or let it go on where it was

        Once a pause is answered, nothing that was under way is kept.
        """
        return _processors().set_state(current_call(), processor, body["state"])


@blp.route("/api/v1/processors/<name:processor>/resets")
class ProcessorResets(MethodView):
    """Beginnings elsewhere."""

    @secured("topics:write")
    @blp.doc(operationId="resetProcessor")
    @blp.arguments(schemas.ProcessorResetIn, example={"to": "earliest"})
    @blp.creates(201, schemas.ProcessorOut)
    def post(self, body: dict[str, Any], processor: str) -> Any:
        """Let a processor begin anew at other offsets, with nothing folded

        What it has written stays; what it writes anew comes after it.
        """
        offsets = [(one["partition"], one["offset"]) for one in body.get("offsets", ())]
        start = Start(body["to"], body.get("time"), offsets)
        return _processors().reset(current_call(), processor, start)
