"""Sends stored bytes: whole or one range (RFC 9110, 14), with their digest (RFC 9530).

A download holds a thread as long as its client takes to read. There are so many places for them at
once, so that clients that read slowly, or not at all, can't take all the threads.
"""

from contextlib import ExitStack
from typing import Any, cast

from flask import Response, current_app, request

from app.kernel.errors import RangeNotSatisfiable
from app.kernel.http.problems import problem_response
from app.kernel.http.sendable import Sendable
from app.kernel.slots import Slots

OCTETS = "application/octet-stream"
BINARY = {"type": "string", "format": "binary"}
OF_BYTES: dict[str, Any] = {"schema": BINARY, "content_type": OCTETS, "example": "(bytes)"}


def sent(
    content: Sendable, media_type: str = OCTETS, *, place: ExitStack | None = None
) -> Response:
    """The answer to a GET or HEAD: 200, 206, 304 or 416. Texts are UTF-8.

    ``place`` is closed when all has been sent; without it, the download takes a place here. Raises
    Unavailable when too many downloads are under way.
    """
    is_text = media_type.startswith("text/")
    content_type = f"{media_type}; charset=utf-8" if is_text else media_type
    headers = {"ETag": f'"{content.etag}"'}
    if request.if_none_match.contains_weak(content.etag):
        return Response(status=304, headers=headers)
    wanted = _wanted_range(content)
    if wanted is not None and wanted[0] >= wanted[1]:
        refused = problem_response(RangeNotSatisfiable(extra={"size": content.size}))
        refused.headers["Content-Range"] = f"bytes */{content.size}"
        return refused
    start, end = wanted or (0, content.size)
    digest = f"sha-256=:{content.digest}:"
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f'attachment; filename="{content.filename}"',
        "Repr-Digest": digest,
    }
    if wanted is None:
        headers["Content-Digest"] = digest
    else:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
    pieces = iter(()) if request.method == "HEAD" else content.pieces(start, end)
    status = 200 if wanted is None else 206
    response = Response(pieces, status, headers, content_type=content_type)
    response.call_on_close((place or _place()).pop_all().close)
    return response


def _place() -> ExitStack:
    place = ExitStack()
    if request.method != "HEAD":
        place.enter_context(cast("Slots", current_app.extensions["download_slots"]).hold())
    return place


def _wanted_range(content: Sendable) -> tuple[int, int] | None:
    """The one range asked for; None for the whole. One that holds nothing can't be satisfied."""
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    # A date, or a weak tag, never matches: the whole is always right.
    if request.headers.get("If-Range", f'"{content.etag}"') != f'"{content.etag}"':
        return None
    first, _ = asked.ranges[0]
    if first is not None and -content.size >= first:
        return 0, content.size
    return asked.range_for_length(content.size) or (0, 0)
