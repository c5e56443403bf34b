"""Columns of NumPy handed to the engine piece by piece, through Arrow's C interface.

https://arrow.apache.org/docs/format/CStreamInterface.html: the engine asks for the next piece from
a thread of its own, and gives each back when it needs it no more.
"""

import ctypes
import errno
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from itertools import count
from typing import Any

import numpy as np

FORMATS = {"integer": b"l", "number": b"g", "boolean": b"b", "string": b"u", "datetime": b"tsu:"}
_NULLABLE = 2
_ENDED_EARLY = ctypes.create_string_buffer(b"the pieces ended early")
Buffers = Sequence[np.ndarray[Any, Any] | None]


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_ReleaseSchema = ctypes.CFUNCTYPE(None, POINTER(_Schema))
_ReleaseArray = ctypes.CFUNCTYPE(None, POINTER(_Array))
_ReleaseStream = ctypes.CFUNCTYPE(None, POINTER(_Stream))
_GetSchema = ctypes.CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Schema))
_GetNext = ctypes.CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Array))
_GetError = ctypes.CFUNCTYPE(c_void_p, POINTER(_Stream))

_Schema._fields_ = [
    ("format", c_char_p),
    ("name", c_char_p),
    ("metadata", c_char_p),
    ("flags", c_int64),
    ("n_children", c_int64),
    ("children", POINTER(POINTER(_Schema))),
    ("dictionary", POINTER(_Schema)),
    ("release", _ReleaseSchema),
    ("private_data", c_void_p),
]
_Array._fields_ = [
    ("length", c_int64),
    ("null_count", c_int64),
    ("offset", c_int64),
    ("n_buffers", c_int64),
    ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", POINTER(POINTER(_Array))),
    ("dictionary", POINTER(_Array)),
    ("release", _ReleaseArray),
    ("private_data", c_void_p),
]
_Stream._fields_ = [
    ("get_schema", _GetSchema),
    ("get_next", _GetNext),
    ("get_last_error", _GetError),
    ("release", _ReleaseStream),
    ("private_data", c_void_p),
]


class ArrowStream:
    """Pieces of a table that the engine may read once: each the number of rows, and the buffers
    of each column (validity, or None where no value is missing; then the values).

    ``failure`` is what the pieces raised: the engine only hears that there are no more.
    """

    def __init__(
        self, columns: Sequence[tuple[str, str]], pieces: Iterator[tuple[int, Sequence[Buffers]]]
    ) -> None:
        self.failure: BaseException | None = None
        self._columns = columns
        self._pieces = pieces
        self._held: dict[int, Any] = {}
        self._numbers = count(1)
        # The callbacks must live as long as the structures that point to them.
        self._release_schema = _ReleaseSchema(self._release)
        self._release_array = _ReleaseArray(self._release)
        self._stream = _Stream(
            get_schema=_GetSchema(self._tell_schema),
            get_next=_GetNext(self._tell_next),
            get_last_error=_GetError(lambda _stream: ctypes.addressof(_ENDED_EARLY)),
            release=_ReleaseStream(_forget),
        )

    def close(self) -> None:
        """Ask for no further piece."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream as a capsule, as the engine wants it."""
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
        return new(ctypes.addressof(self._stream), b"arrow_array_stream", None)

    def _tell_schema(self, _stream: Any, out: Any) -> int:
        children = [
            self._schema(_Schema(), FORMATS[type_], name.encode()) for name, type_ in self._columns
        ]
        self._schema(out.contents, b"+s", b"", children)
        return 0

    def _tell_next(self, _stream: Any, out: Any) -> int:
        try:
            found = next(self._pieces, None)
        except BaseException as error:  # noqa: BLE001 - it must not pass through the engine
            self.failure = error
            return errno.EIO
        if found is None:
            out.contents.release = _ReleaseArray()
            return 0
        rows, columns = found
        children = [self._array(_Array(), rows, buffers) for buffers in columns]
        self._array(out.contents, rows, [None], children)
        return 0

    def _schema(
        self, schema: Any, format_: bytes, name: bytes, children: Sequence[Any] = ()
    ) -> Any:
        schema.format, schema.name, schema.flags = format_, name, _NULLABLE
        schema.release = self._release_schema
        self._adopt(schema, children, format_, name)
        return schema

    def _array(self, array: Any, rows: int, buffers: Buffers, children: Sequence[Any] = ()) -> Any:
        places = [None if buffer is None else buffer.ctypes.data for buffer in buffers]
        listed = (c_void_p * len(places))(*places)
        array.length, array.null_count, array.offset = rows, -1 if buffers[0] is not None else 0, 0
        array.n_buffers, array.buffers = len(places), listed
        array.release = self._release_array
        self._adopt(array, children, buffers, listed)
        return array

    def _adopt(self, parent: Any, children: Sequence[Any], *memory: Any) -> None:
        """Point to the children, and hold all memory until the parent is released."""
        pointers = [ctypes.pointer(child) for child in children]
        listed = (POINTER(type(parent)) * len(pointers))(*pointers) if children else None
        parent.n_children, parent.children = len(pointers), listed
        parent.private_data = next(self._numbers)
        self._held[parent.private_data] = (memory, pointers, listed)

    def _release(self, pointer: Any) -> None:
        parent = pointer.contents
        for number in range(parent.n_children):
            child = parent.children[number]
            if child.contents.release:
                child.contents.release(child)
        del self._held[parent.private_data]
        parent.release = type(parent.release)()


def _forget(stream: Any) -> None:
    stream.contents.release = _ReleaseStream()
