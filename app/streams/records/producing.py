"""What a request to produce holds: records as JSON, or CloudEvents in one of their three modes."""

from typing import Any, Final

import msgspec
from flask import Request, g

from app.kernel.errors import Invalid, UnsupportedMediaType
from app.kernel.http.bodies import JSON_TYPES, StrictParser, admitted_body, decode_json
from app.kernel.log.seam import NewRecord
from app.streams.records import cloud_events
from app.streams.records.decoding import new_record, plain_records, refuse_large
from app.streams.records.encoding import BYTES_TYPE, is_json
from app.streams.records.schemas import RecordsIn

TOLD_BY: Final = ("Ce-Id", "Ce-Source", "Ce-Type", "Ce-Subject", "Ce-Time", "Ce-Partitionkey")
"""Headers with others of which it is another request."""
_ACCEPTED: Final = [JSON_TYPES[0], cloud_events.STRUCTURED, cloud_events.BATCHED]
_parser = StrictParser()


def sent_records(request: Request) -> list[NewRecord]:
    """The records of a request; raises UnsupportedMediaType, Malformed, Invalid, TooLarge."""
    headers = {name.lower(): text for name, text in request.headers.items()}
    pointer = ""
    if cloud_events.is_binary(headers):
        made = _binary(request, headers)
    elif request.mimetype in JSON_TYPES:
        made, pointer = _records(request), "/records/{}"
    elif request.mimetype == cloud_events.STRUCTURED:
        made = cloud_events.structured(decode_json(admitted_body(request, "JSON")))
    elif request.mimetype == cloud_events.BATCHED:
        made, pointer = cloud_events.batched(decode_json(admitted_body(request, "JSON"))), "/{}"
    else:
        raise UnsupportedMediaType(
            "Send records as JSON, or CloudEvents", extra={"accepted": _ACCEPTED}
        )
    refuse_large(made, pointer)
    return made


def read_ahead(request: Request) -> None:
    """Read the body now: the fingerprint of an Idempotency-Key then is made over it."""
    if "body" not in g:
        admitted_body(request, "records")


def _records(request: Request) -> list[NewRecord]:
    plain = plain_records(admitted_body(request, "JSON"))
    if plain is not None:
        return plain
    told: dict[str, Any] = _parser.parse(RecordsIn(), request, location="json")
    return [new_record(record) for record in told["records"]]


def _binary(request: Request, headers: dict[str, str]) -> list[NewRecord]:
    body = admitted_body(request, "an event")
    content_type = headers.get("content-type")
    if content_type is None:
        return cloud_events.binary(headers, BYTES_TYPE if body else None, body or b"null")
    if len(content_type) > 200 or any(not " " <= char <= "~" for char in content_type):
        raise Invalid.at("Content-Type", "invalid", "A media type of 200 characters at most")
    if is_json(content_type):
        body = msgspec.json.encode(decode_json(body))
    return cloud_events.binary(headers, content_type, body)
