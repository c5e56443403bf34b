"""Reads an Arrow IPC stream: first what it says of itself, then the columns.

Understood are flat columns, dictionaries of texts, batches in any number up to ``MOST_MESSAGES``,
little-endian and not compressed: what a compressed buffer expands to is known only when it has
been expanded. Every length and offset is compared with the bytes that there are; numpy looks at
nothing else.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.arrow.flatbuffer import Table, broken
from app.kernel.arrow.schema import READ, ColumnType, Field, read_fields
from app.kernel.arrow.texts import Missing, Room, read_texts, read_views
from app.kernel.errors import TooLarge, UnsupportedMediaType
from app.kernel.repeated import Repeated, array_of

MOST_MESSAGES: Final = 10_000
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_HEAD: Final = struct.Struct("<Ii")
_CONTINUED: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Column:
    """The values of a column, in numpy's own form; ``missing`` is None where none is.

    Texts are objects, or ``Repeated`` where few are different, ``None`` where one is missing.
    Decimals are objects too, integers to be divided by ``10 ** scale``; moments are ``datetime64``
    in the stream's unit.
    """

    field: Field
    values: NDArray[Any] | Repeated
    missing: Missing | None


@dataclass(frozen=True)
class _Message:
    kind: int
    head: Table
    body: memoryview


@dataclass(frozen=True)
class _Levels:
    """The texts of a dictionary, None where one is missing, and how long each is."""

    texts: NDArray[Any]
    lengths: NDArray[np.int64]


Dictionaries = dict[int, _Levels]


class ArrowStream:
    """A stream whose schema and row count have been read, and whose columns have not."""

    def __init__(self, data: bytes, most_text: int) -> None:
        """``most_text`` bounds the bytes of all texts written out. Raises Malformed, TooLarge, and
        UnsupportedMediaType where buffers are compressed."""
        self._room = Room(most_text)
        messages = list(_messages(data))
        if not messages or messages[0].kind != _SCHEMA:
            raise broken("it doesn't begin with a schema")
        self.fields = read_fields(messages[0].head)
        self._messages = messages[1:]
        self.rows = sum(_rows_of(one.head) for one in self._messages if one.kind == _BATCH)

    def read(self) -> list[Column]:
        """All columns; those whose type isn't read must have been refused before."""
        dictionaries: Dictionaries = {}
        parts: list[list[Column]] = [[] for _ in self.fields]
        texts = {
            field.dictionary: field.type for field in self.fields if field.dictionary is not None
        }
        for message in self._messages:
            if message.kind == _BATCH:
                batch = _Batch(message.head, message.body, self._room)
                for field, found in zip(self.fields, parts, strict=True):
                    found.append(batch.column(field, dictionaries))
                batch.finish()
            elif message.kind == _DICTIONARY:
                _read_dictionary(message, texts, dictionaries, self._room)
        return [_joined(field, found) for field, found in zip(self.fields, parts, strict=True)]


def _messages(data: bytes) -> Iterator[_Message]:
    at, count, ended = 0, 0, False
    while at < len(data) and not ended:
        if len(data) - at < _HEAD.size:
            raise broken("it is cut short")
        continued, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if continued != _CONTINUED or size < 0 or size % 8:
            raise broken("a message doesn't begin as one")
        ended = size == 0
        if not ended:
            count += 1
            if count > MOST_MESSAGES:
                raise TooLarge(f"At most {MOST_MESSAGES} messages", extra={"limit": MOST_MESSAGES})
            message, at = _message(data, at, size)
            yield message
    if at != len(data):
        raise broken("bytes follow its end")


def _message(data: bytes, at: int, size: int) -> tuple[_Message, int]:
    if size > len(data) - at:
        raise broken("it is cut short")
    told = Table.root(data[at : at + size])
    at += size
    kind, head, length = told.scalar(1, "ubyte"), told.table(2), told.scalar(3, "long")
    if told.scalar(0, "short") not in (3, 4):
        raise broken("it is of a version that isn't read")
    if head is None or kind not in (_SCHEMA, _DICTIONARY, _BATCH):
        raise broken("a message is neither schema nor dictionary nor batch")
    if not 0 <= length <= len(data) - at:
        raise broken("it is cut short")
    return _Message(kind, head, memoryview(data)[at : at + length]), at + length


def _rows_of(batch: Table) -> int:
    rows = batch.scalar(0, "long")
    if rows < 0:
        raise broken("a batch has less than no rows")
    if batch.table(3) is not None:
        raise UnsupportedMediaType(
            "Send Arrow whose buffers aren't compressed", extra={"accepted": ["identity"]}
        )
    return rows


class _Batch:
    """Takes the columns of a batch off its buffers, one after another."""

    def __init__(self, told: Table, body: memoryview, room: Room) -> None:
        self._rows = _rows_of(told)
        self._body = body
        self._room = room
        self._nodes = iter(told.longs(1, 2))
        self._buffers = iter(told.longs(2, 2))
        self._views = iter(told.longs(4, 1))

    def finish(self) -> None:
        """Raise Malformed where there is more than the schema tells of."""
        if any(next(left, None) is not None for left in (self._nodes, self._buffers, self._views)):
            raise broken("a batch has more columns than its schema")

    def column(self, field: Field, dictionaries: Dictionaries) -> Column:
        """The next column."""
        stored = field.stored
        rows, nulls = next(self._nodes, (-1, -1))
        if rows != self._rows:
            raise broken("a column has other rows than its batch")
        if field.kind not in READ:
            raise broken(f"a column of type {field.kind} was to be refused")
        if stored.kind == "null":
            return Column(field, np.zeros(rows), np.ones(rows, dtype=bool))
        missing = self._missing(nulls)
        if stored.kind == "text":
            return _text_column(field, self._texts(stored, missing), missing)
        if stored.kind == "boolean":
            return Column(field, self._bits(self._buffer()), missing)
        numbers = self._numbers(stored.form)
        if field.codes is None:
            if stored.kind == "moment":
                numbers = numbers.astype("<i8").view(f"<M8[{stored.unit}]")
            elif stored.kind == "decimal":
                numbers = _whole(numbers)
            return Column(field, numbers, missing)
        return self._decoded(field, numbers, missing, dictionaries)

    def _buffer(self) -> memoryview:
        offset, length = next(self._buffers, (0, -1))
        if offset < 0 or not 0 <= length <= len(self._body) - offset:
            raise broken("a buffer lies outside of its batch")
        return self._body[offset : offset + length]

    def _missing(self, nulls: int) -> Missing | None:
        bitmap = self._buffer()
        if not bitmap:
            if nulls > 0:
                raise broken("a column doesn't tell which of its values are missing")
            return None
        missing = ~self._bits(bitmap)
        return missing if missing.any() else None

    def _bits(self, buffer: memoryview) -> NDArray[np.bool_]:
        if self._rows > 8 * len(buffer):
            raise broken("a column has less values than rows")
        packed = np.frombuffer(buffer, dtype=np.uint8, count=-(-self._rows // 8))
        return np.unpackbits(packed, count=self._rows, bitorder="little").view(np.bool_)

    def _numbers(self, form: str, more: int = 0) -> NDArray[Any]:
        buffer, dtype, rows = self._buffer(), np.dtype(f"<{form}"), self._rows + more
        if rows > len(buffer) // dtype.itemsize:
            raise broken("a column has less values than rows")
        return np.frombuffer(buffer, dtype=dtype, count=rows)

    def _texts(self, stored: ColumnType, missing: Missing | None) -> list[str] | Repeated:
        if stored.form == "view":
            views = self._numbers("V16").tobytes()
            (count,) = next(self._views, (0,))
            if count < 0:
                raise broken("a column has less than no buffers")
            # More than there are end with the first that isn't there.
            buffers = [self._buffer() for _ in range(count)]
            return read_views(views, buffers, missing, self._room)
        # Without rows some writers leave the one offset out.
        offsets = self._numbers(stored.form, more=1) if self._rows else self._numbers(stored.form)
        return read_texts(offsets, self._buffer(), self._room)

    def _decoded(
        self,
        field: Field,
        codes: NDArray[Any],
        missing: Missing | None,
        dictionaries: Dictionaries,
    ) -> Column:
        levels = dictionaries.get(field.dictionary or 0)
        if levels is None:
            raise broken("a dictionary is missing")
        known = (codes >= 0) & (codes < len(levels.texts))
        if missing is not None:
            codes = np.where(missing, 0, codes)
            known |= missing
        if not known.all():
            raise broken("a code has no text in its dictionary")
        if not len(levels.texts):
            return Column(field, np.full(self._rows, None, dtype=object), missing)
        self._room.take(int(levels.lengths[codes].sum()))
        gone = np.array([text is None for text in levels.texts.tolist()], dtype=bool)[codes]
        if missing is not None:
            gone |= missing
        # Codes may be of a type that has no number for one text more.
        repeated = Repeated(levels.texts.tolist(), codes.astype(np.int64))
        return _text_column(field, repeated, gone if gone.any() else None)


def _text_column(field: Field, texts: list[str] | Repeated, missing: Missing | None) -> Column:
    if isinstance(texts, Repeated):
        repeated = texts if missing is None else texts.without(missing)
        # A dictionary may have more texts than there are rows.
        few = len(repeated.values) <= len(repeated)
        return Column(field, repeated if few else repeated.array(), missing)
    values = np.array(texts, dtype=object)
    if missing is not None:
        values[missing] = None
    return Column(field, values, missing)


def _read_dictionary(
    message: _Message,
    types: dict[int, ColumnType],
    dictionaries: Dictionaries,
    room: Room,
) -> None:
    number, told = message.head.scalar(0, "long"), message.head.table(1)
    if message.head.scalar(2, "ubyte"):
        raise UnsupportedMediaType("Send Arrow whose dictionaries are whole, not in deltas")
    stored = types.get(number)
    if stored is None or stored.kind != "text" or told is None:
        raise broken("a dictionary belongs to no column of texts")
    batch = _Batch(told, message.body, room)
    levels = array_of(batch.column(Field("", stored), {}).values)
    batch.finish()
    lengths = [0 if level is None else len(level) for level in levels.tolist()]
    dictionaries[number] = _Levels(levels, np.array(lengths, dtype=np.int64))


def _joined(field: Field, parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Column(field, np.empty(0), None)
    masks = [
        np.zeros(len(part.values), dtype=bool) if part.missing is None else part.missing
        for part in parts
    ]
    missing = np.concatenate(masks)
    values = np.concatenate([array_of(part.values) for part in parts])
    return Column(field, values, missing if missing.any() else None)


def _whole(decimals: NDArray[Any]) -> NDArray[Any]:
    """Integers of up to 256 bits, two's complement, as Python's."""
    size = decimals.dtype.itemsize
    data = decimals.tobytes()
    whole = [
        int.from_bytes(data[start : start + size], "little", signed=True)
        for start in range(0, len(data), size)
    ]
    return np.array(whole, dtype=object)
