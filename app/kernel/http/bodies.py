"""JSON bodies, read strictly, and webargs' parser on top of them.

Refused as malformed (400): what isn't JSON in UTF-8, NaN and infinities, a key twice in an object,
more than 100 levels, a body cut short. Refused at their place (422): integers past 64 bits, NUL,
lone surrogates; each of them is accepted by one database or client and breaks another.
Refused as too large (413): more bytes, more values, or more members of one array or object than
any request needs. Three bytes of JSON become a hundred of memory and microseconds of work, so the
limit of bytes alone would let one request take a gigabyte and half a minute.

A body that comes slowly holds a thread. Reading takes one of a few places, so that clients that
stall can't take all the threads.
"""

import json
from collections.abc import Iterator, Mapping, Sized
from itertools import islice
from typing import Any, NoReturn, cast

from flask import Request, current_app, g
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser

from app.kernel.admission import TICKET, Ticket
from app.kernel.auth import Call
from app.kernel.errors import FieldError, Invalid, Malformed, TooLarge, UnsupportedMediaType, escape
from app.kernel.slots import Slots

MOST_LEVELS = 100
MOST_VALUES = 2_000_000
MOST_MEMBERS = 100_000
_MOST_LISTED = 100
_PIECE = 1 << 20
BODY_PATIENCE = 0.25
_CODES = {
    "Missing data for required field.": "required",
    "Unknown field.": "unknown_field",
    "Field may not be null.": "null",
}
JSON_TYPES = ("application/json", "application/merge-patch+json")


def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises TooLarge past ``limit`` bytes, Malformed when it was cut short.

    A server hands over what it got before the client vanished as if that were all of it.
    """
    promised = request.content_length
    if promised is not None and promised > limit:
        raise _too_long(limit)
    body = b"".join(_pieces(request, limit))
    if promised is not None and len(body) != promised:
        raise Malformed("The body ended before its Content-Length")
    return body


def _pieces(request: Request, limit: int) -> Iterator[bytes]:
    # Werkzeug ends a chunked body at its own limit as if that were all of it: ours comes first.
    request.max_content_length = limit + _PIECE
    left, promised = limit, request.content_length
    while piece := request.stream.read(min(_PIECE, left + 1)):
        left -= len(piece)
        if left < 0:
            raise _too_long(limit)
        yield piece
        # To ask for more would be to wait for the server's word that there is none.
        if promised is not None and limit - left >= promised:
            return


def _too_long(limit: int) -> TooLarge:
    return TooLarge(f"This body may have {limit} bytes", extra={"limit": limit})


def json_body(request: Request) -> bytes:
    """The body of this request, read once: the fingerprint of an Idempotency-Key needs it, too."""
    if "body" not in g:
        limit = request.max_content_length or 2**24
        with cast("Slots", current_app.extensions["body_slots"]).hold(wait=BODY_PATIENCE):
            g.body = read_body(request, limit)
    return cast("bytes", g.body)


def admitted_body(request: Request, kind: str) -> bytes:
    """The body, once there is a place for the work on it; raises UnsupportedMediaType for one that
    is compressed. ``kind`` is what it is called."""
    if content_coding(request) != "identity":
        raise UnsupportedMediaType(
            f"Send {kind} as it is, not compressed", extra={"accepted": ["identity"]}
        )
    body = json_body(request)
    ticket: Ticket | None = request.environ.get(TICKET)
    if ticket is not None:
        ticket.enter(cast("Call", g.call).remaining())
    return body


def has_no_body(request: Request) -> bool:
    """Whether the request comes without a body, not even an empty one of some type."""
    return not (
        request.content_type or request.content_length or "Transfer-Encoding" in request.headers
    )


def content_coding(request: Request) -> str:
    """How the body is compressed; ``identity`` if it isn't, and an empty header says so, too."""
    return request.headers.get("Content-Encoding", "").strip().lower() or "identity"


def decode_json(body: bytes) -> Any:
    """The value of a JSON text; raises Malformed, Invalid or TooLarge as the module says."""
    # Commas and brackets within texts count, too: no text that anybody needs has so many.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise TooLarge(f"A JSON body may hold {MOST_VALUES} values", extra={"limit": MOST_VALUES})
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise Malformed("The body is not UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"The body is not JSON: {error.msg} at {where}") from error
    except RecursionError as error:
        raise Malformed(f"The body is nested deeper than {MOST_LEVELS} levels") from error
    faults = list(_faults(value, "", 0))
    if faults:
        raise Invalid("The body holds values that can't be kept", errors=faults[:_MOST_LISTED])
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _count(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"The key {twice[:100]!r} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > 4000:
        raise Malformed("A number has more than 4,000 digits")
    return int(digits)


def _faults(value: Any, pointer: str, level: int) -> Iterator[FieldError]:
    if level > MOST_LEVELS:
        raise Malformed(f"The body is nested deeper than {MOST_LEVELS} levels")
    if isinstance(value, str):
        yield from _text_faults(value, pointer)
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _text_faults(key, pointer)
            yield from _faults(member, f"{pointer}/{escape(key)}", level + 1)
    elif isinstance(value, list):
        _count(value)
        for index, member in enumerate(value):
            yield from _faults(member, f"{pointer}/{index}", level + 1)
    elif isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            yield FieldError(pointer, "out_of_range", "The number is too large")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield FieldError(pointer, "out_of_range", "The integer does not fit into 64 bits")


def _count(members: Sized) -> None:
    if len(members) > MOST_MEMBERS:
        raise TooLarge(
            f"An array or object may have {MOST_MEMBERS} members", extra={"limit": MOST_MEMBERS}
        )


def _text_faults(text: str, pointer: str) -> Iterator[FieldError]:
    if "\0" in text:
        yield FieldError(pointer, "invalid_text", "NUL can't be kept")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        yield FieldError(pointer, "invalid_text", "A lone surrogate is not text")


def field_errors(messages: Any, pointer: str = "", *, field: bool = True) -> Iterator[FieldError]:
    """marshmallow's nested messages, flat, each with its JSON pointer."""
    if isinstance(messages, Mapping):
        for key, nested in messages.items():
            # `_schema` is the object itself; key and value are how Dict tells its halves apart,
            # but at the top and in a list's items they are a ``field`` like any other.
            here = key == "_schema" or (key in ("key", "value") and not field)
            place = pointer if here else f"{pointer}/{escape(str(key))}"
            yield from field_errors(nested, place, field=isinstance(key, int))
    elif isinstance(messages, list | tuple):
        for message in messages:
            yield from field_errors(message, pointer)
    else:
        yield FieldError(pointer, _CODES.get(str(messages), "invalid"), str(messages))


class StrictParser(FlaskParser):
    """webargs' parser, with our way to read JSON and to refuse."""

    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012 (webargs' way)
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": RAISE,
    }

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The strictly decoded body; raises UnsupportedMediaType for another content type."""
        if getattr(schema, "body_optional", False) and has_no_body(req):
            g.body = b""
            return {}
        if req.mimetype not in JSON_TYPES:
            raise UnsupportedMediaType(
                "Send application/json", extra={"accepted": ["application/json"]}
            )
        value = decode_json(admitted_body(req, "JSON"))
        if not isinstance(value, dict):
            raise Invalid.at("", "invalid", "The body must be a JSON object")
        return value

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Raise Invalid with a pointer for each message."""
        messages = error.normalized_messages()
        raise Invalid(
            "The request is not valid", errors=list(islice(_located(messages), _MOST_LISTED))
        )


def _located(messages: Mapping[str, Any]) -> Iterator[FieldError]:
    for location, nested in messages.items():
        for found in field_errors(nested):
            if location != "query":
                yield found
                continue
            name = found.pointer.lstrip("/").split("/")[0]
            code = "unknown_parameter" if found.code == "unknown_field" else found.code
            yield FieldError(f"?{name}", code, found.detail, found.allowed)
