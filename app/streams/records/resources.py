"""The records of topics: producing, reading by position, and the stream of what comes."""

from contextlib import nullcontext
from typing import Any, cast

import msgspec
from flask import Response, current_app, request
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.accepting import accepted_type
from app.kernel.http.api import current_call, resource_headers
from app.kernel.http.event_stream import EVENT_STREAM, event_stream
from app.kernel.http.spec import IDEMPOTENCY_KEY, Action
from app.kernel.long_work.views import waiting_places
from app.kernel.slots import Slots
from app.streams import examples
from app.streams.records import schemas
from app.streams.records.encoding import told_page
from app.streams.records.producing import TOLD_BY, read_ahead, sent_records
from app.streams.records.service import Produced
from app.streams.records.service import Records as RecordsService
from app.streams.records.tail import LONGEST_SECONDS, Tail, parsed_positions
from app.streams.resources import blp

__all__ = ["blp"]

_JSON = "application/json"
_KEPT = "private, max-age=300, immutable"
_BODY = {
    "required": True,
    "content": {_JSON: {"schema": schemas.RecordsIn, "example": {"records": examples.NEW_RECORDS}}},
}
_STREAM_DOC: dict[str, Any] = {
    "responses": {
        200: {
            "description": "What comes, as server-sent events",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}, "example": examples.EVENT}},
        }
    },
    "parameters": [
        {
            "in": "header",
            "name": "Last-Event-ID",
            "schema": {"type": "string", "pattern": "^[0-9]{1,3}:[0-9]{1,18}(,[0-9:,]*)?$"},
            "example": "0:42",
            "description": "Go on after this event: the offset to be read next, by partition.",
        }
    ],
}


def _records() -> RecordsService:
    return cast("RecordsService", current_app.extensions["records"])


@blp.route("/api/v1/topics/<name:topic>/records")
class ProduceRecords(Action):
    """Producing."""

    @secured("topics:write")
    @blp.doc(requestBody=_BODY, parameters=[IDEMPOTENCY_KEY])
    @blp.response(201, schemas.ProducedOut)
    def post(self, topic: str) -> Any:
        """Append records to a topic

        All of them, or none where the record log is a database. The answer tells where each lies,
        in the order in which they came. 429 when a partition is full and its topic refuses, 503
        when the record log can't keep them now.

        CloudEvents 1.0 are taken, too: in binary mode (headers `ce-*`), structured
        (`application/cloudevents+json`) or batched (`application/cloudevents-batch+json`). Their
        data is the value, their attributes are headers `ce_*`, and `partitionkey` is the key.
        """
        if "Idempotency-Key" not in request.headers:
            produced = _produce(topic)
            body = msgspec.json.encode({"offsets": produced.offsets})
            headers = resource_headers(produced, 201)
            return Response(body, 201, headers, content_type=_JSON)
        read_ahead(request)
        return _produce_once(topic)


@blp.creates(201, schemas.ProducedOut, headers=TOLD_BY)
def _produce_once(topic: str) -> Any:
    return _produce(topic)


def _produce(topic: str) -> Produced:
    key = request.headers.get("Idempotency-Key")
    return _records().append(current_call(), topic, sent_records(request), key)


@blp.route("/api/v1/topics/<name:topic>/partitions/<index:partition>/records")
class PartitionRecords(MethodView):
    """The records of a partition."""

    @secured("topics:read")
    @blp.arguments(schemas.PageQuery, location="query")
    @blp.response(200, schemas.RecordPage)
    @blp.alt_response(410, "Gone")
    def get(self, arguments: dict[str, Any], topic: str, partition: int) -> Any:
        """Read records by position

        410 with `first` where retention has dropped the offset. A page of `limit` records never
        changes.
        """
        call, wait = current_call(), arguments["wait"]
        with waiting_places().hold() if wait and not call.peer else nullcontext():
            page = _records().page(
                call,
                topic,
                partition,
                arguments.get("offset"),
                limit=arguments["limit"],
                wait=wait,
            )
        headers = {"ETag": f'"{page.etag}"'}
        if page.full:
            headers["Cache-Control"] = _KEPT
        if request.if_none_match.contains_weak(page.etag):
            return Response(status=304, headers=headers)
        body = told_page(page.items, page.next_offset)
        return Response(body, headers=headers, content_type=_JSON)


@blp.route("/api/v1/topics/<name:topic>/records/stream")
class RecordStream(MethodView):
    """What comes to a topic."""

    @secured("topics:read")
    @blp.doc(**_STREAM_DOC)
    @blp.arguments(schemas.TailQuery, location="query")
    @blp.alt_response(406, "NotAcceptable")
    @blp.alt_response(410, "Gone")
    def get(self, arguments: dict[str, Any], topic: str) -> Response:
        """Follow a topic as server-sent events

        Each event is a record. The stream ends after a minute; resume it by `Last-Event-ID`.
        """
        accepted_type([EVENT_STREAM])
        call = current_call()
        row, bounds = _records().positions(call, topic)
        at_end = arguments["after"] == "latest"
        positions = {p: end if at_end else first for p, (first, end) in bounds.items()}
        last = request.headers.get("Last-Event-ID")
        if last is not None:
            positions |= parsed_positions(last, row.partitions)
        tail = Tail(_records().shared, row.id, positions)
        places = cast("Slots", current_app.extensions["tail_slots"])
        return event_stream(tail.follow(call.remaining(LONGEST_SECONDS)), places)
