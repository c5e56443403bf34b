"""Sends stored bytes: whole or one range (RFC 9110, 14), with their digest (RFC 9530)."""

from typing import Any

from flask import Response, request

from app.kernel.errors import RangeNotSatisfiable
from app.kernel.problems import problem_response
from app.kernel.sendable import Sendable

OCTETS = "application/octet-stream"
BINARY = {"type": "string", "format": "binary"}
OF_BYTES: dict[str, Any] = {"schema": BINARY, "content_type": OCTETS, "example": "(bytes)"}


def sent(content: Sendable, media_type: str = OCTETS) -> Response:
    """The answer to a GET or HEAD: 200, 206, 304 or 416. Texts are UTF-8."""
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
    return Response(pieces, status, headers, content_type=content_type)


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
