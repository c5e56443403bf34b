"""Long work over HTTP: the schemas that all of it shares, waiting, and event streams."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, cast

from flask import current_app, request
from marshmallow import fields
from marshmallow.validate import OneOf, Range

from app.kernel.errors import Invalid, NotFound, Unavailable
from app.kernel.http.api import current_call
from app.kernel.http.event_stream import EVENT_STREAM, event_stream
from app.kernel.http.fields import Input, Output, QueryInteger, Resource, UtcTime
from app.kernel.long_work.desk import WorkDesk
from app.kernel.long_work.lifecycle import STATES, Row
from app.kernel.slots import Slots

_STREAM_SECONDS = 55.0
_POLL_SECONDS = 0.25


class Watched(Protocol):
    """What can be watched until it has ended."""

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""


class Happening(Protocol):
    """One thing that happened to it."""

    @property
    def seq(self) -> int:
        """The number, from 1."""

    @property
    def type(self) -> str:
        """What it was."""


class Progress(Output):
    """How far it is."""

    fraction = fields.Float(required=True, validate=Range(0, 1))
    step = fields.String(required=True)
    message = fields.String(required=True)


class WorkError(Output):
    """Why it failed."""

    code = fields.String(required=True)
    detail = fields.String(required=True)
    retryable = fields.Boolean(required=True)


class RefusedPlace(Output):
    """One reason why something sent was refused, and where."""

    pointer = fields.String(required=True)
    code = fields.String(required=True)
    detail = fields.String(required=True)
    allowed = fields.Raw()


class WorkOut(Resource):
    """What all long work tells."""

    EXAMPLE: ClassVar = {
        "id": "01a203dd-2710-7023-bd67-9d8929f69490",
        "state": "succeeded",
        "progress": {"fraction": 1.0, "step": "done", "message": ""},
        "attempt": 1,
        "error": None,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": "2026-01-01T00:00:01Z",
        "finished_at": "2026-01-01T00:00:03Z",
    }

    id = fields.String(required=True, metadata={"format": "uuid"})
    state = fields.String(required=True, validate=OneOf(STATES))
    progress = fields.Nested(Progress, required=True)
    attempt = fields.Integer(required=True)
    error = fields.Nested(WorkError, required=True, allow_none=True)
    created_at = UtcTime(required=True)
    started_at = UtcTime(required=True, allow_none=True)
    finished_at = UtcTime(required=True, allow_none=True)


class WaitQuery(Input):
    """How long to wait for a change."""

    wait = QueryInteger(
        load_default=0,
        validate=Range(0, 30),
        metadata={"description": "Seconds to wait for a change, unless it has ended."},
    )


class EventQuery(Input):
    """From where to read events."""

    after = QueryInteger(load_default=0, validate=Range(0, 2**31))


class WorkEventOut(Output):
    """One thing that happened."""

    EXAMPLE: ClassVar = {"seq": 1, "time": "2026-01-01T00:00:00Z", "type": "queued", "data": {}}

    seq = fields.Integer(required=True)
    time = UtcTime(required=True)
    type = fields.String(required=True)
    data = fields.Dict(required=True)


class WorkEventList(Output):
    """Events in order."""

    items = fields.List(fields.Nested(WorkEventOut), required=True)
    next_after = fields.Integer(required=True, metadata={"description": "Pass it as `after`."})


_STREAM = {
    "schema": {"type": "string"},
    "example": 'id: 2\nevent: running\ndata: {"seq": 2, "type": "running", "data": {}}\n\n',
}
EVENTS_DOC: dict[str, Any] = {
    "responses": {200: {"content": {"text/event-stream": _STREAM}}},
    "parameters": [
        {
            "in": "header",
            "name": "Last-Event-ID",
            "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
            "description": "Resume an event stream after this event.",
        }
    ],
}


def waiting_places() -> Slots:
    """Places for those who wait."""
    return cast("Slots", current_app.extensions["stream_slots"])


def watched(desk: WorkDesk[Row], work_id: str, seconds: float) -> Row:
    """The work as it is, or with ``seconds`` as soon as it changes."""
    call = current_call()
    if not seconds:
        return desk.get(call, work_id)
    with waiting_places().hold():
        return desk.wait(call, work_id, seconds=seconds, known=known_etag())


def known_etag() -> Callable[[str], bool] | None:
    """Whether the caller has seen an ETag, by its If-None-Match; None without one."""
    tags = request.if_none_match
    return tags.contains_weak if tags else None


def events_answer(
    events: Callable[[int], Sequence[Happening]], get: Callable[[], Watched], after: int
) -> Any:
    """A page of events, or a stream of them when the caller accepts ``text/event-stream``.

    A stream ends when its resource has ended, or is deleted.
    """
    last = _last_event_id()
    after = after if last is None else last
    current = get()
    offered = ["application/json", EVENT_STREAM]
    if request.accept_mimetypes.best_match(offered) != EVENT_STREAM:
        found = events(after)
        return {"items": found, "next_after": found[-1].seq if found else after}
    seconds = current_call().remaining(_STREAM_SECONDS)
    return event_stream(_stream(events, get, current, after, seconds), waiting_places())


def _last_event_id() -> int | None:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid.at("Last-Event-ID", "invalid", "The number of an event")
    return int(text)


def _stream(
    events: Callable[[int], Sequence[Happening]],
    get: Callable[[], Watched],
    current: Watched,
    after: int,
    seconds: float,
) -> Iterator[str]:
    """Server-sent events; no database session is held between two looks."""
    until = time.monotonic() + seconds
    yield ": events follow\n\n"
    shown = None
    while time.monotonic() < until:
        # The row is read before its events: when it has ended, the last event is among them.
        try:
            found = events(after)
        except Unavailable:
            yield ": no news can be read right now\n\n"
            time.sleep(_POLL_SECONDS)
            continue
        for event in found:
            after = event.seq
            text = json.dumps(WorkEventOut().dump(event))
            yield f"id: {event.seq}\nevent: {event.type}\ndata: {text}\n\n"
        if current.progress != shown:
            shown = current.progress
            # Without an id: progress is a state, a resumed stream begins with the latest.
            yield f"event: progress\ndata: {json.dumps(shown)}\n\n"
        if current.ended:
            return
        time.sleep(_POLL_SECONDS)
        try:
            current = get()
        except NotFound:
            return
        except Unavailable:
            # The row as it was is told nothing new by; its events are asked for next.
            continue
