"""Writes columns as an Arrow IPC stream of one batch, without missing values."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.arrow.flatbuffer import Longs, Node, Scalar, written

_VERSION: Final = 4
_SCHEMA, _BATCH = 1, 3
_INT, _FLOAT, _UTF8, _BOOL = 2, 3, 5, 6
_HEAD: Final = struct.Struct("<Ii")
_CONTINUED: Final = 0xFFFFFFFF


def stream_of(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """The stream of columns of one length: of booleans, 64-bit integers, doubles, or texts.

    A text's array is one of objects, all of them str.
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    fields = [_field(name, values) for name, values in columns.items()]
    schema = _message(_SCHEMA, {0: Scalar("short", 0), 1: fields}, b"")
    buffers = [buffer for values in columns.values() for buffer in (b"", *_buffers(values))]
    places, at = [], 0
    for buffer in buffers:
        places.append((at, len(buffer)))
        at += len(buffer) + -len(buffer) % 8
    body = b"".join(buffer + bytes(-len(buffer) % 8) for buffer in buffers)
    head = {
        0: Scalar("long", rows),
        1: Longs([(rows, 0)] * len(columns)),
        2: Longs(places),
    }
    return schema + _message(_BATCH, head, body) + _HEAD.pack(_CONTINUED, 0)


def _message(kind: int, head: dict[int, Node], body: bytes) -> bytes:
    told = written(
        {
            0: Scalar("short", _VERSION),
            1: Scalar("ubyte", kind),
            2: head,
            3: Scalar("long", len(body)),
        }
    )
    return _HEAD.pack(_CONTINUED, len(told)) + told + body


def _field(name: str, values: NDArray[Any]) -> dict[int, Node]:
    number, told = _TYPES[values.dtype.kind]
    no_fields: Sequence[Node] = []
    return {0: name, 1: Scalar("ubyte", 0), 2: Scalar("ubyte", number), 3: told, 5: no_fields}


_TYPES: Final[Mapping[str, tuple[int, dict[int, Node]]]] = {
    "i": (_INT, {0: Scalar("int", 64), 1: Scalar("ubyte", 1)}),
    "f": (_FLOAT, {0: Scalar("short", 2)}),
    "b": (_BOOL, {}),
    "O": (_UTF8, {}),
}


def _buffers(values: NDArray[Any]) -> list[bytes]:
    if values.dtype.kind == "b":
        return [np.packbits(values, bitorder="little").tobytes()]
    if values.dtype.kind != "O":
        return [values.astype(f"<{values.dtype.kind}8").tobytes()]
    # Labels, most of the time: few, and many times the same.
    known = {text: text.encode() for text in set(values.tolist())}
    texts = [known[text] for text in values.tolist()]
    offsets = np.zeros(len(texts) + 1, dtype="<i4")
    np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)), out=offsets[1:])
    return [offsets.tobytes(), b"".join(texts)]
