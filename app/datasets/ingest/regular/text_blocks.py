"""Whole lines of plain CSV, and where the cells lie in them.

Plain is what ``csv_rows.RowShape`` calls so, without any quote: then a separator is a separator
wherever it stands, and all of them are found at once.
"""

from typing import Any

import numpy as np

from app.datasets.ingest.regular.likely import LONGEST_CELL, Irregular

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
_MARGIN = LONGEST_CELL + 16
_LINE_END = 10
_WORD = 8
_ALL = (1 << 64) - 1
# Of the words from a cell's end backwards, by its length: what is kept of them, as they may begin
# before the cell.
KEPT = np.array(
    [
        [
            _ALL & ~(_ALL >> 8 * min(max(size - _WORD * place, 0), _WORD))
            for size in range(LONGEST_CELL + 1)
        ]
        for place in range(LONGEST_CELL // _WORD)
    ],
    np.uint64,
)


class TextBlock:
    """The cells of whole lines: ``ends`` and ``lengths`` of each column's, in bytes.

    Raises Irregular unless every line has ``width`` cells without quotes and of at most
    ``LONGEST_CELL`` bytes.
    """

    def __init__(self, text: bytes, width: int, delimiter: int) -> None:
        if b'"' in text or b"\0" in text or b"\r" in text:
            raise Irregular
        room = _MARGIN + len(text)
        self._bytes = np.zeros(room, np.uint8)
        inside = self._bytes[_MARGIN:]
        inside[:] = np.frombuffer(text, np.uint8)
        marks = inside == _LINE_END
        self.rows = int(np.count_nonzero(marks))
        np.logical_or(marks, inside == delimiter, out=marks)
        ends = np.flatnonzero(marks)
        last = ends[width - 1 :: width]
        if len(ends) != self.rows * width or (inside[last] != _LINE_END).any():
            raise Irregular
        ends += _MARGIN
        # The last row's end is the one before the first of each row's.
        table = np.empty((width + 1, self.rows), np.int64)
        table[1:] = ends.reshape(-1, width).T
        table[0, :1], table[0, 1:] = _MARGIN - 1, table[-1, :-1]
        self.ends: Integers = table[1:]
        self.lengths: Integers = table[1:] - table[:-1]
        self.lengths -= 1
        if self.lengths.max() > LONGEST_CELL:
            raise Irregular
        # Eight bytes from each place on.
        self._words: Words = np.ndarray(
            (len(self._bytes) - _WORD + 1,), np.uint64, self._bytes.data, strides=(1,)
        )

    def words(self, ends: Integers, lengths: Integers, place: int = 0) -> Words:
        """Eight bytes of each cell, counted from its end, as a number in which its last byte
        weighs most; ``place`` 1 are the eight before. Where a cell is shorter, there are zeros.
        """
        found: Words = self._words[ends - _WORD * (place + 1)]
        found &= KEPT[place].take(lengths)
        return found

    def bytes_at(self, places: Integers) -> Bytes:
        """The bytes at places that are counted like ``ends``."""
        return self._bytes.take(places)

    def first_bytes(self, ends: Integers, lengths: Integers) -> Bytes:
        """The first byte of each cell; of an empty one, the separator before it."""
        return self._bytes.take(ends - np.maximum(lengths, 1))
