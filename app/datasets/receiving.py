"""A request's body on its way into an ``Upload``: raw, or as the file of a form."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask import g, request
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import HTTPException

from app.datasets import schemas
from app.datasets.ingest_request import FORMATS, ColumnRule, IngestRequest
from app.datasets.uploads import Intake, Upload
from app.kernel import faults
from app.kernel.errors import Invalid, ServiceError, Unavailable, UnsupportedMediaType
from app.kernel.http.bodies import content_coding, decode_json, field_errors
from app.kernel.http.multipart import Form, FormReader
from app.kernel.http.receiving import keeper, promised_digest
from app.kernel.http.uploads import PIECE, Body, Promise, Spool, plain_filename
from app.kernel.work_folders import work_folder

TYPES = {
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/json": "json",
    "application/vnd.apache.parquet": "parquet",
}
OCTETS = "application/octet-stream"
_SUFFIXES = {**{f".{name}": name for name in FORMATS}, ".jsonl": "ndjson", ".pq": "parquet"}
_GZIP_TYPES = ("application/gzip", "application/x-gzip")
_UNLIMITED = 2**62
_MOST_TAKEN = 8 << 20


@dataclass(frozen=True)
class Received:
    """An upload and, where it came in a form, the form's texts."""

    upload: Upload
    texts: Mapping[str, str]


def is_form() -> bool:
    """Whether the request's body is a form."""
    return request.mimetype == "multipart/form-data"


def prefers_async() -> bool:
    """Whether the client would rather not wait (RFC 7240)."""
    wishes = ",".join(request.headers.getlist("Prefer")).lower().split(",")
    return any(wish.partition(";")[0].strip() == "respond-async" for wish in wishes)


def let_digest_stand_for_body() -> None:
    """Keep the kernel from reading a JSON upload for its fingerprint: it is not a small body."""
    if "Idempotency-Key" in request.headers and request.mimetype == "application/json":
        digest = request.headers.get("Content-Digest")
        if digest is None:
            raise Invalid.at(
                "Content-Digest", "required", "An upload with Idempotency-Key needs Content-Digest"
            )
        g.body = digest.encode()


@contextmanager
def answered_on_refusal(intake: Intake) -> Iterator[None]:
    """Take the rest of a body that the block refuses, unless it is long.

    A server closes a connection on which bytes still arrive, and the client, which is sending,
    never sees the answer; one that says ``Expect: 100-continue`` waits for it. This takes a place
    among the uploads: a client may stall here, too.
    """
    try:
        yield
    except ServiceError:
        if "Expect" not in request.headers:
            with suppress(Unavailable, OSError, HTTPException), intake.slots.hold():
                _take_rest()
        raise


def _take_rest() -> None:
    request.max_content_length = _UNLIMITED
    left = _MOST_TAKEN
    while left > 0 and (piece := request.stream.read(PIECE)):
        left -= len(piece)


@contextmanager
def received(intake: Intake, query: Mapping[str, Any], texts: frozenset[str]) -> Iterator[Received]:
    """Take the body in; the upload is gone when the block ends.

    ``texts`` are the names that a form's texts may have. Raises Unavailable when too many uploads
    are under way, LengthRequired, TooLarge, Malformed, Invalid, UnsupportedMediaType, StorageFull.
    """
    promise = Promise(_promised_length(), promised_digest())
    promise.check(intake.most)
    # What is wrong with the way to read is said before the file is sent.
    wanted = _request(intake, query, _gzip(), _format_of_type(query), None)
    request.max_content_length = _UNLIMITED  # Body counts, and says more when it is too much.
    with intake.slots.hold(), work_folder(intake.work, promise.length or 0) as folder:
        wanted = replace(wanted, source=folder / "source")
        spool = Spool(wanted.source)
        try:
            body = Body(request.stream.read, promise, most=intake.most, beat=keeper())
            form = _take(body, spool, texts)
            body.verify()
            faults.hit("uploads.received")
        finally:
            spool.close()
        if form is not None:
            gzip = form.file_type in _GZIP_TYPES
            made = _request(intake, query, gzip, _format_of_part(form, query), form)
            wanted = replace(made, source=spool.path)
        name = plain_filename(form.filename) if form else None
        upload = Upload(folder, spool.bytes, spool.digest, name, wanted)
        yield Received(upload, form.texts if form else {})


def _request(
    intake: Intake, query: Mapping[str, Any], gzip: bool, format_: str, form: Form | None
) -> IngestRequest:
    """How the file is to be read; raises Invalid for what isn't offered."""
    charset = None if is_form() else request.mimetype_params.get("charset")
    return IngestRequest(
        source=Path(),
        format=format_,
        gzip=gzip,
        delimiter=query.get("delimiter"),
        decimal=query["decimal"],
        encoding=query.get("encoding") or charset or "utf-8",
        columns=_rules(form),
        on_error=query["on_error"],
        limits=intake.limits,
    )


def _take(body: Body, spool: Spool, texts: frozenset[str]) -> Form | None:
    if is_form():
        boundary = request.mimetype_params.get("boundary")
        return FormReader(texts | {"columns"}, spool.write).read(body, boundary)
    for piece in body:
        spool.write(piece)
    return None


def _gzip() -> bool:
    coding = content_coding(request)
    if coding == "gzip" and not is_form():
        return True
    if coding != "identity":
        offered = ["identity"] if is_form() else ["gzip", "identity"]
        raise UnsupportedMediaType(
            "This Content-Encoding is not offered here", extra={"accepted": offered}
        )
    return False


def _format_of_type(query: Mapping[str, Any]) -> str:
    """The format by the content type of a raw body; a form's is known only with its file."""
    asked: str | None = query.get("format")
    if is_form():
        return asked or "csv"
    known = TYPES.get(request.mimetype)
    if known is None and request.mimetype != OCTETS:
        accepted = [*TYPES, OCTETS, "multipart/form-data"]
        raise UnsupportedMediaType("Send a table", extra={"accepted": accepted})
    if known is not None and asked not in (None, known):
        raise Invalid.at("?format", "contradiction", f"The Content-Type says {known}")
    if known is None and asked is None:
        raise Invalid.at("?format", "required", f"{OCTETS} doesn't tell the format", list(FORMATS))
    return known or asked or ""


def _format_of_part(form: Form, query: Mapping[str, Any]) -> str:
    """The format of a form's file: by the client's word, by its type, by the end of its name."""
    known = query.get("format") or TYPES.get(form.file_type)
    if known is None:
        name = (form.filename or "").lower()
        if form.file_type in _GZIP_TYPES:
            name = name.removesuffix(".gz")
        known = next((kind for end, kind in _SUFFIXES.items() if name.endswith(end)), None)
    if known is None:
        detail = "Neither the type nor the name of the file tells its format"
        raise Invalid.at("?format", "required", detail, list(FORMATS))
    return str(known)


def _promised_length() -> int | None:
    """Content-Length; None for a chunked body. A request with neither has no body."""
    length = request.content_length
    return 0 if length is None and "Transfer-Encoding" not in request.headers else length


def _rules(form: Form | None) -> dict[str, ColumnRule]:
    """What the client says of columns, in the header or in the form."""
    in_header = request.headers.get("X-Columns")
    in_form = form.texts.get("columns") if form else None
    if in_header is not None and in_form is not None:
        raise Invalid.at("X-Columns", "twice", "The form has a part `columns`, too")
    if in_form is not None:
        columns = text_value(in_form.encode(), "/columns")
    elif in_header is not None:
        # WSGI hands a header's bytes over as if they were Latin-1.
        columns = text_value(in_header.encode("latin-1", "replace"), "X-Columns")
    else:
        return {}
    loaded = checked(schemas.ColumnsIn(), {"columns": columns})["columns"]
    return {name: ColumnRule(**rule) for name, rule in loaded.items()}


def text_value(text: bytes, place: str) -> Any:
    """The value of a JSON text that came in a header or a form; ``place`` says where."""
    try:
        return decode_json(text)
    except ServiceError as error:
        raise Invalid.at(place, "invalid", error.detail) from error


def checked(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a schema loads them; raises Invalid with pointers."""
    try:
        return dict(schema.load(values))
    except ValidationError as error:
        found = list(field_errors(error.messages))
        raise Invalid("The request is not valid", errors=found[:100]) from error
