"""A version as a file: which representation a client accepts, whole or a part of it."""

from base64 import b64encode
from contextlib import ExitStack, closing
from dataclasses import replace

from flask import Response, request

from app.datasets.tables import Version
from app.datasets.versions import Versions
from app.kernel.artifacts.stored import Stored
from app.kernel.errors import Invalid
from app.kernel.http.accepting import accepted_type
from app.kernel.http.api import current_call
from app.kernel.http.downloads import sent
from app.kernel.http.sendable import Sendable
from app.kernel.slots import Slots

_PARQUET = "application/vnd.apache.parquet"
_TYPES = {"text/csv": "csv", "application/x-ndjson": "ndjson", _PARQUET: "parquet"}


def content_answer(
    versions: Versions, version: Version, stored: Stored, slots: Slots, *, spreadsheet: bool
) -> Response:
    """The response to a GET of a version's content.

    Raises NotAcceptable, Invalid when something else than CSV is wanted for a spreadsheet, and
    Unavailable when too many downloads are under way.
    """
    media_type = accepted_type(list(_TYPES))
    if spreadsheet and media_type != "text/csv":
        raise Invalid.at("?spreadsheet", "not_offered", f"A spreadsheet doesn't read {media_type}")
    etag = _etag(version, media_type, spreadsheet=spreadsheet)
    if request.if_none_match.contains_weak(etag):
        return Response(status=304, headers={"ETag": f'"{etag}"', "Vary": "Accept"})
    with ExitStack() as place:
        place.enter_context(slots.hold())
        if media_type == _PARQUET:
            content = _parquet(versions, version, stored, etag)
        else:
            content = _text(versions, version, stored, etag, spreadsheet=spreadsheet, place=place)
        # Place and file are held as long as the answer is being sent.
        response = sent(content, media_type, place=place)
    response.vary.add("Accept")
    return response


def _etag(version: Version, media_type: str, *, spreadsheet: bool) -> str:
    """Known before the file is made: of a version that never changes, one for each form."""
    digest = version.storage_digest if media_type == _PARQUET else version.digest
    hexadecimal = (digest or "").removeprefix("sha-256:")
    return f"{hexadecimal}.{'spreadsheet' if spreadsheet else _TYPES[media_type]}"


def _parquet(versions: Versions, version: Version, stored: Stored, etag: str) -> Sendable:
    name = f"{version.dataset}-{version.number}.parquet"
    return replace(versions.parquet(stored, name), etag=etag)


def _text(
    versions: Versions,
    version: Version,
    stored: Stored,
    etag: str,
    *,
    spreadsheet: bool,
    place: ExitStack,
) -> Sendable:
    format_ = "csv" if spreadsheet else etag.rpartition(".")[2]
    text = versions.text(current_call(), stored, format_, spreadsheet=spreadsheet)
    file = place.enter_context(closing(text))
    return Sendable(
        filename=f"{version.dataset}-{version.number}.{format_}",
        etag=etag,
        digest=_base64(file.digest),
        size=file.bytes,
        pieces=file.pieces,
    )


def _base64(digest: str) -> str:
    return b64encode(bytes.fromhex(digest.removeprefix("sha-256:"))).decode()
