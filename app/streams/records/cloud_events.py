"""CloudEvents 1.0 as records: the value is the event's data, its attributes are headers ``ce_*``.

As the Kafka binding has it, so whoever reads values reads the data as of any other record. The
attribute ``partitionkey`` is the record's key; source and id together are its id, so an event that
is sent again is a duplicate. All three modes of HTTP are understood: binary (attributes in headers
``ce-*``), structured (one event as JSON) and batched.
"""

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
from marshmallow import ValidationError

from app.kernel.errors import FieldError, Invalid, escape
from app.kernel.http.fields import UtcTime
from app.kernel.log.seam import NewRecord
from app.streams.records.encoding import BYTES_TYPE, CONTENT_TYPE, is_json
from app.streams.records.schemas import (
    BASE64,
    LONGEST_HEADER,
    LONGEST_ID,
    LONGEST_KEY,
    MOST_HEADERS,
)

STRUCTURED: Final = "application/cloudevents+json"
BATCHED: Final = "application/cloudevents-batch+json"
PREFIX: Final = "ce-"
MOST_EVENTS: Final = 10_000
_REQUIRED: Final = ("specversion", "id", "source", "type")
_NOT_EXTENSIONS: Final = frozenset(
    {*_REQUIRED, "datacontenttype", "dataschema", "subject", "time", "data", "data_base64"}
)
_NAME: Final = re.compile(r"[a-z0-9]{1,100}")
_MEDIA_TYPE: Final = re.compile(r"[\w.+!#$&^-]+/[\w.+!#$&^*-]+\s*(;.*)?", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INTEGER: Final = 2**31
_encode = msgspec.json.Encoder().encode
_base64 = re.compile(BASE64.removesuffix("$")).fullmatch


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether a request's headers tell of an event in binary mode."""
    return f"{PREFIX}specversion" in headers


def structured(told: Any) -> list[NewRecord]:
    """The record of one event as JSON; raises Invalid."""
    return [_from_json(told, "")]


def batched(told: Any) -> list[NewRecord]:
    """The records of events in a JSON array; raises Invalid."""
    if not isinstance(told, list) or not 1 <= len(told) <= MOST_EVENTS:
        raise Invalid.at("", "invalid", f"An array of 1 to {MOST_EVENTS} events")
    return [_from_json(event, f"/{place}") for place, event in enumerate(told)]


def binary(headers: Mapping[str, str], content_type: str | None, body: bytes) -> list[NewRecord]:
    """The record of an event in binary mode, whose JSON is already checked; raises Invalid."""
    told = {
        name.lower().removeprefix(PREFIX): _unquoted(name, text)
        for name, text in headers.items()
        if name.lower().startswith(PREFIX)
    }
    faults = [FieldError(f"{PREFIX}{e.pointer[1:]}", e.code, e.detail) for e in _faults(told, "")]
    if "datacontenttype" in told:
        code = "unknown_field"
        faults.append(FieldError(f"{PREFIX}datacontenttype", code, "Content-Type says it"))
    if faults:
        raise Invalid("The event is not valid", errors=faults)
    return [_record(told, body, content_type)]


def _unquoted(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise Invalid.at(name.lower(), "invalid", "Percent-encoded UTF-8") from error


def _from_json(told: Any, at: str) -> NewRecord:
    if not isinstance(told, dict):
        raise Invalid.at(at, "invalid", "An event is a JSON object")
    attributes = {
        name: value
        for name, value in told.items()
        if value is not None and name not in ("data", "data_base64")
    }
    faults = [*_faults(attributes, at), *_data_faults(told, at)]
    if faults:
        raise Invalid("The event is not valid", errors=faults[:100])
    content_type = attributes.pop("datacontenttype", None)
    if told.get("data_base64") is not None:
        value, content_type = b64decode(told["data_base64"]), content_type or BYTES_TYPE
    elif is_json(content_type):
        value = _encode(told.get("data"))
    else:
        value = (told.get("data") or "").encode()
    return _record(attributes, value, content_type)


def _faults(told: Mapping[str, Any], at: str) -> Iterator[FieldError]:
    """What is wrong with an event's attributes."""
    for name in _REQUIRED:
        if name not in told:
            yield FieldError(f"{at}/{name}", "required", "Missing data for required field.")
    if len(told) > MOST_HEADERS:
        yield FieldError(at, "invalid", f"At most {MOST_HEADERS} attributes")
    for name, value in told.items():
        fault = _fault_of(name, value)
        if fault is not None:
            yield FieldError(f"{at}/{escape(name)}", "invalid", fault)


def _fault_of(name: str, value: Any) -> str | None:
    """What is wrong with one attribute, if anything is."""
    extension = name not in _NOT_EXTENSIONS
    if not _NAME.fullmatch(name):
        return "Names of attributes have a-z and 0-9 only."
    if extension and isinstance(value, bool | int):
        fits = isinstance(value, bool) or -_INTEGER <= value < _INTEGER
        return None if fits else "Integers of events have 32 bits."
    if not isinstance(value, str):
        return "Not a valid string."
    return _text_fault(name, value) if value or extension else "It must not be empty."


def _text_fault(name: str, value: str) -> str | None:
    if _CONTROL.search(value):
        return "Control characters can't be kept"
    if len(value) > (LONGEST_KEY if name == "partitionkey" else LONGEST_HEADER):
        return "It is too long."
    check = _CHECKS.get(name)
    return None if check is None else check(value)


def _version_fault(value: str) -> str | None:
    return None if value == "1.0" else "Only 1.0 is understood."


def _reference_fault(value: str) -> str | None:
    return None if _is_reference(value) else "Not a URI reference."


def _schema_fault(value: str) -> str | None:
    return None if _is_reference(value) and urlsplit(value).scheme else "Not an absolute URI."


def _is_reference(value: str) -> bool:
    try:
        urlsplit(value)
    except ValueError:
        return False
    return not re.search(r"[\s<>\"{}|\\^`]", value)


def _time_fault(value: str) -> str | None:
    try:
        UtcTime().deserialize(value)
    except ValidationError:
        return "Not a time of RFC 3339."
    return None


def _type_fault(value: str) -> str | None:
    return None if _MEDIA_TYPE.fullmatch(value) else "Not a media type."


_CHECKS: Final = {
    "specversion": _version_fault,
    "source": _reference_fault,
    "dataschema": _schema_fault,
    "time": _time_fault,
    "datacontenttype": _type_fault,
}


def _data_faults(told: Mapping[str, Any], at: str) -> Iterator[FieldError]:
    data, encoded = told.get("data"), told.get("data_base64")
    if data is not None and encoded is not None:
        yield FieldError(f"{at}/data_base64", "invalid", "Give data or data_base64, not both.")
    elif encoded is not None:
        if not isinstance(encoded, str) or not _base64(encoded):
            yield FieldError(f"{at}/data_base64", "invalid", "Not Base64 (RFC 4648, with padding).")
    elif data is not None and not isinstance(data, str):
        content_type = told.get("datacontenttype")
        if isinstance(content_type, str) and not is_json(content_type):
            yield FieldError(f"{at}/data", "invalid", "Data of this type is a string.")


def _record(told: Mapping[str, Any], value: bytes, content_type: str | None) -> NewRecord:
    headers = {f"ce_{name}": _text(attribute) for name, attribute in told.items()}
    if content_type is not None:
        headers[CONTENT_TYPE] = content_type
    key = told.get("partitionkey")
    happened = told.get("time")
    return NewRecord(
        value,
        key=None if key is None else _text(key).encode(),
        headers=headers,
        id=record_id(told["source"], told["id"]),
        timestamp=None if happened is None else UtcTime().deserialize(happened),
    )


def record_id(source: str, event_id: str) -> str:
    """Source and id of an event as the id of its record."""
    told = f"{event_id}@{source}"
    if len(told) <= LONGEST_ID:
        return told
    return hashlib.sha256(told.encode()).hexdigest()


def _text(attribute: Any) -> str:
    """An attribute as the HTTP and Kafka bindings write it."""
    return str(attribute).lower() if isinstance(attribute, bool) else str(attribute)
