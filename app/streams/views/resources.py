"""``/lambda-views`` and what hangs below it."""

from typing import Any, cast

from flask import current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.spec import Action
from app.kernel.long_work.views import WaitQuery, watched
from app.streams.views import examples, schemas
from app.streams.views.batches import BATCHES
from app.streams.views.service import VIEWS
from app.streams.views.service import LambdaViews as LambdaViewsService

blp = Blueprint(
    "lambda-views",
    __name__,
    service="streams",
    description="Answers over all records of a topic: a batch view merged with a speed view.",
)

_PATCH = {"batch": {"every_seconds": 3600}}


def _views() -> LambdaViewsService:
    return cast("LambdaViewsService", current_app.extensions["lambda_views"])


@blp.route("/api/v1/lambda-views")
class LambdaViews(MethodView):
    """The Lambda views of the project."""

    @secured("topics:read")
    @blp.doc(operationId="listLambdaViews")
    @blp.arguments(VIEWS.schema(), location="query")
    @blp.response(200, schemas.LambdaViewList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List Lambda views"""
        return _views().list(current_call(), arguments)

    @secured("topics:write")
    @blp.doc(operationId="createLambdaView")
    @blp.arguments(schemas.LambdaViewIn, example=examples.NEW)
    @blp.creates(201, schemas.LambdaViewOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a Lambda view over the records that a topic keeps"""
        return _views().create(current_call(), body)


@blp.route("/api/v1/lambda-views/<name:view>")
class LambdaView(MethodView):
    """One Lambda view."""

    @secured("topics:read")
    @blp.response(200, schemas.LambdaViewOut)
    def get(self, view: str) -> Any:
        """Get a Lambda view"""
        return _views().get(current_call(), view)

    @secured("topics:write")
    @blp.arguments(schemas.LambdaViewPatch, example=_PATCH)
    @blp.response(200, schemas.LambdaViewOut)
    def patch(self, body: dict[str, Any], view: str) -> Any:
        """Change a Lambda view's schedule, description or tags"""
        return _views().update(current_call(), view, body)

    @secured("topics:write")
    @blp.response(204)
    def delete(self, view: str) -> None:
        """Delete a Lambda view with its batches; the records of its topic stay"""
        _views().delete(current_call(), view)


@blp.route("/api/v1/lambda-views/<name:view>/batches")
class ViewBatches(MethodView):
    """The batches of a Lambda view."""

    @secured("topics:read")
    @blp.doc(operationId="listViewBatches")
    @blp.arguments(BATCHES.schema(), location="query")
    @blp.response(200, schemas.ViewBatchList)
    def get(self, arguments: dict[str, Any], view: str) -> Any:
        """List a Lambda view's batches"""
        return _views().batches.of_view(current_call(), view, arguments)

    @secured("topics:write")
    @blp.doc(operationId="createViewBatch")
    @blp.creates(202, schemas.ViewBatchOut)
    @blp.alt_response(409, "Conflict")
    def post(self, view: str) -> Any:
        """Recompute a Lambda view now

        409 while a batch is under way, or where the records that it would need are gone.
        """
        return _views().batches.create(current_call(), view)


@blp.route("/api/v1/lambda-views/<name:view>/batches/<n:version>")
class ViewBatch(MethodView):
    """One batch of a Lambda view."""

    @secured("topics:read")
    @blp.arguments(WaitQuery, location="query")
    @blp.response(200, schemas.ViewBatchOut)
    def get(self, arguments: dict[str, Any], view: str, version: int) -> Any:
        """Get a batch of a Lambda view

        With `wait`, as soon as it changes; at once if it has ended.
        """
        batches = _views().batches
        batch = batches.numbered(current_call(), view, version)
        return watched(batches, batch.id, arguments["wait"])


@blp.route("/api/v1/lambda-views/<name:view>/batches/<n:version>/cancel")
class CancelViewBatch(Action):
    """The end of a batch before its time."""

    @secured("topics:write")
    @blp.creates(202, schemas.ViewBatchOut)
    @blp.alt_response(409, "Conflict")
    def post(self, view: str, version: int) -> Any:
        """Cancel a batch of a Lambda view, with its training run

        Answers stay merged with the batch before it. 409 for one that has ended.
        """
        batches = _views().batches
        batch = batches.numbered(current_call(), view, version)
        return batches.cancel(current_call(), batch.id)


@blp.route("/api/v1/lambda-views/<name:view>/state")
class ViewState(MethodView):
    """How far a Lambda view is."""

    @secured("topics:read")
    @blp.response(200, schemas.ViewState)
    def get(self, view: str) -> Any:
        """Get how far a Lambda view is, with the digests of its states"""
        return _views().answers.state(current_call(), view)


@blp.route("/api/v1/lambda-views/<name:view>/value")
class ViewValue(MethodView):
    """The answer of an aggregate view for one group."""

    @secured("topics:read")
    @blp.arguments(schemas.KeyQuery, location="query")
    @blp.response(200, schemas.ViewValue)
    @blp.alt_response(410, "Gone")
    def get(self, arguments: dict[str, Any], view: str) -> Any:
        """Get the measures of one group over all records

        410 where records were dropped from the topic before they were counted.
        """
        return _views().answers.value(current_call(), view, arguments.get("key"))


@blp.route("/api/v1/lambda-views/<name:view>/values")
class ViewValues(MethodView):
    """The answers of an aggregate view."""

    @secured("topics:read")
    @blp.doc(operationId="listViewValues")
    @blp.arguments(schemas.PageQuery, location="query")
    @blp.response(200, schemas.ViewValues)
    @blp.alt_response(410, "Gone")
    def get(self, arguments: dict[str, Any], view: str) -> Any:
        """List the groups of an aggregate view with their measures"""
        page = (arguments["page_size"], arguments["page_token"])
        return _views().answers.values(current_call(), view, *page)
