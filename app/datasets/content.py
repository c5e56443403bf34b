"""A version as a file: which representation a client accepts, whole or a part of it."""

from base64 import b64encode
from contextlib import ExitStack, closing
from itertools import chain

from flask import Response, request

from app.datasets.tables import Version
from app.datasets.versions import Versions
from app.kernel.downloads import sent
from app.kernel.errors import Invalid, NotAcceptable
from app.kernel.sendable import Sendable
from app.kernel.slots import Slots
from app.kernel.stored import Stored

_PARQUET = "application/vnd.apache.parquet"
_TYPES = {"text/csv": "csv", "application/x-ndjson": "ndjson", _PARQUET: "parquet"}


def content_answer(
    versions: Versions, version: Version, stored: Stored, slots: Slots, *, spreadsheet: bool
) -> Response:
    """The response to a GET of a version's content.

    Raises NotAcceptable, Invalid when something else than CSV is wanted for a spreadsheet, and
    Unavailable when too many downloads are under way.
    """
    media_type = _accepted()
    if spreadsheet and media_type != "text/csv":
        raise Invalid.at("?spreadsheet", "not_offered", f"A spreadsheet doesn't read {media_type}")
    with ExitStack() as place:
        place.enter_context(slots.hold())
        if media_type == _PARQUET:
            response = sent(_parquet(versions, version, stored), media_type)
        else:
            response = _exported(versions, version, stored, media_type, spreadsheet)
        # The place is held as long as the answer is being sent.
        response.call_on_close(place.pop_all().close)
    response.vary.add("Accept")
    return response


def _accepted() -> str:
    """The type that the client likes best; CSV where it likes any."""
    offered = list(_TYPES)
    if not request.accept_mimetypes:
        return offered[0]
    found = request.accept_mimetypes.best_match(offered)
    if found is None:
        raise NotAcceptable("The content is not offered in that form", extra={"offered": offered})
    return found


def _parquet(versions: Versions, version: Version, stored: Stored) -> Sendable:
    sha256 = bytes.fromhex(stored.digest.removeprefix("sha-256:"))
    return Sendable(
        filename=_filename(version, "parquet"),
        etag=sha256.hex(),
        digest=b64encode(sha256).decode(),
        size=stored.bytes,
        pieces=lambda start, end: versions.parquet(stored, start, end),
    )


def _exported(
    versions: Versions, version: Version, stored: Stored, media_type: str, spreadsheet: bool
) -> Response:
    """A text made on the way out: of unknown length, hence without ranges."""
    format_ = _TYPES[media_type]
    kind = f"spreadsheet.{format_}" if spreadsheet else format_
    etag = f"{(version.digest or '').removeprefix('sha-256:')}.{kind}"
    headers = {
        "ETag": f'"{etag}"',
        "Accept-Ranges": "none",
        "Content-Disposition": f'attachment; filename="{_filename(version, format_)}"',
    }
    if request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers, content_type=media_type)
    with ExitStack() as begun:
        made = versions.export(stored, format_, spreadsheet=spreadsheet)
        pieces = begun.enter_context(closing(made))
        # What can't begin is a problem, not a file.
        first = next(pieces, b"")
        content_type = f"{media_type}; charset=utf-8" if format_ == "csv" else media_type
        response = Response(chain([first], pieces), headers=headers, content_type=content_type)
        response.call_on_close(begun.pop_all().close)
    return response


def _filename(version: Version, format_: str) -> str:
    return f"{version.dataset}-{version.number}.{format_}"
