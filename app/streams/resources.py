"""``/topics``, ``/topics/{topic}`` and ``/references/streams``."""

from typing import Any, cast

from flask import current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.references import ReferenceList
from app.streams import schemas
from app.streams.references import References
from app.streams.service import TOPICS
from app.streams.service import Topics as TopicsService

blp = Blueprint(
    "topics",
    __name__,
    service="streams",
    description="Ordered, immutable, partitioned logs of records.",
)

_TOPIC = {"name": "flights", "partitions": 3, "retention": {"max_age_seconds": 604800}}
_PATCH = {"retention": {"max_records": 1_000_000}, "overflow": "drop_oldest"}


def _topics() -> TopicsService:
    return cast("TopicsService", current_app.extensions["topics"])


@blp.route("/api/v1/topics")
class Topics(MethodView):
    """The topics of the project."""

    @secured("topics:read")
    @blp.arguments(TOPICS.schema(), location="query")
    @blp.response(200, schemas.TopicList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List topics"""
        return _topics().list(current_call(), arguments)

    @secured("topics:write")
    @blp.arguments(schemas.TopicIn, example=_TOPIC)
    @blp.creates(201, schemas.TopicOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a topic"""
        return _topics().create(current_call(), **schemas.row_values(body))


@blp.route("/api/v1/topics/<name:topic>")
class Topic(MethodView):
    """One topic."""

    @secured("topics:read")
    @blp.response(200, schemas.TopicOut)
    def get(self, topic: str) -> Any:
        """Get a topic with the bounds of its partitions"""
        return _topics().get(current_call(), topic)

    @secured("topics:write")
    @blp.arguments(schemas.TopicPatch, example=_PATCH)
    @blp.response(200, schemas.TopicOut)
    def patch(self, body: dict[str, Any], topic: str) -> Any:
        """Change a topic's retention, overflow, description or tags"""
        return _topics().update(current_call(), topic, schemas.row_values(body))

    @secured("topics:write")
    @blp.response(204)
    def delete(self, topic: str) -> None:
        """Delete a topic with its records and consumer groups

        409 with `referrers` while a consumer group has living members, or something else reads or
        writes it.
        """
        _topics().remove(current_call(), topic)


@blp.route("/api/v1/references/streams", tags=["peers"])
class StreamReferences(MethodView):
    """What of this service refers to others' things."""

    @secured("references:read")
    @blp.arguments(schemas.UseQuery, location="query")
    @blp.response(200, ReferenceList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List the processors and views that need a dataset or a model (peers only)"""
        references = cast("References", current_app.extensions["stream_references"])
        call, dataset, model = current_call(), arguments["dataset"], arguments["model"]
        found: list[Any] = []
        if dataset is not None:
            found += references.of_dataset(call, dataset)
        if model is not None:
            is_default = arguments["is_default"]
            found += references.of_model(call, model, arguments["version"], is_default=is_default)
        return {"items": found}
