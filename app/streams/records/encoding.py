"""How a record goes over the wire: as JSON where it is JSON, else its bytes as Base64."""

import re
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from app.kernel.log.seam import Record

CONTENT_TYPE: Final = "content-type"
BYTES_TYPE: Final = "application/octet-stream"
_JSON: Final = re.compile(r"\s*application/([^\s;/]+\+)?json\s*(;.*)?", re.IGNORECASE)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def is_json(content_type: str | None) -> bool:
    """Whether bytes of this type are JSON; those of no type are."""
    return content_type is None or _JSON.fullmatch(content_type) is not None


def told_record(record: Record) -> dict[str, Any]:
    """A record as JSON has it."""
    told: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "id": record.id,
    }
    if record.key is None:
        told["key"] = None
    elif (text := _text(record.key)) is not None:
        told["key"] = text
    else:
        told["key_base64"] = b64encode(record.key).decode()
    if is_json(record.headers.get(CONTENT_TYPE)) and _is_sound(record.value):
        told["value"] = msgspec.Raw(record.value)
    else:
        told["value_base64"] = b64encode(record.value).decode()
    return {**told, "headers": record.headers}


def told_page(records: Iterable[Record], next_offset: int) -> bytes:
    """A page of records."""
    return _encode({"items": [told_record(one) for one in records], "next_offset": next_offset})


def told_json(told: Any) -> bytes:
    """Anything as JSON."""
    return _encode(told)


def _text(key: bytes) -> str | None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _is_sound(value: bytes) -> bool:
    try:
        _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
