"""An answer of server-sent events, which holds a place until it is closed."""

from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response

from app.kernel.slots import Slots

EVENT_STREAM = "text/event-stream"


def event_stream(events: Iterator[str] | Iterator[bytes], places: Slots) -> Response:
    """Raises Unavailable where no place is free."""
    place = ExitStack()
    place.enter_context(places.hold())
    response = Response(
        events,
        content_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    response.call_on_close(place.close)
    return response
