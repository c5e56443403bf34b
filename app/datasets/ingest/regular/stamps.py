"""Datetimes of many cells at once: microseconds since 1970.

Read are ``2013-01-31``, ``2013-01-31T10:30:00`` (or a space), with ``Z`` after it or not, and with
up to six digits of a second; of the years that ``cell_types`` has no exceptions for.
"""

import numpy as np

from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.text_blocks import Bytes, Integers, TextBlock

_DATE, _TIME, _MOST = 10, 19, 26
_DASH, _COLON, _POINT, _SPACE, _TEE, _ZED = b"-:. TZ"
_ZERO = np.uint8(ord("0"))
_MONTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_EPOCH_DAY = 719_468  # from 0000-03-01 to 1970-01-01


def read_stamps(block: TextBlock, ends: Integers, lengths: Integers) -> Integers:
    """The stamps of cells; raises Irregular for any that isn't one."""
    stamps = np.zeros(len(ends), np.int64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        stamps[rows] = _Text(block, ends[rows] - length, int(length)).stamps()
    return stamps


class _Text:
    """Texts of one length, read byte by byte."""

    def __init__(self, block: TextBlock, begins: Integers, length: int) -> None:
        self._block = block
        self._begins = begins
        self._length = length

    def stamps(self) -> Integers:
        """All of them."""
        days = self._days()
        if self._length == _DATE:
            return days * 86_400_000_000
        if self._length < _TIME:
            raise Irregular
        self._check(self._at(10), _TEE, _SPACE)
        self._check(self._at(13), _COLON)
        self._check(self._at(16), _COLON)
        hours, minutes, seconds = self._number(11, 2), self._number(14, 2), self._number(17, 2)
        if (hours > 23).any() or (minutes > 59).any() or (seconds > 59).any():
            raise Irregular
        micros = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        stamps: Integers = micros * 1_000_000 + self._fraction()
        return stamps

    def _fraction(self) -> Integers | int:
        end = self._length
        zed = self._at(end - 1) == _ZED
        if zed.any():
            if not zed.all():
                raise Irregular
            end -= 1
        if end == _TIME:
            return 0
        digits = end - _TIME - 1
        if not 0 < digits <= _MOST - _TIME - 1:
            raise Irregular
        self._check(self._at(_TIME), _POINT)
        return self._number(_TIME + 1, digits) * int(10 ** (_MOST - _TIME - 1 - digits))

    def _days(self) -> Integers:
        if self._length < _DATE:
            raise Irregular
        self._check(self._at(4), _DASH)
        self._check(self._at(7), _DASH)
        years, months, days = self._number(0, 4), self._number(5, 2), self._number(8, 2)
        if (years < 1000).any() or (years > 9998).any() or (months > 12).any():
            raise Irregular
        leap = (years % 4 == 0) & ((years % 100 != 0) | (years % 400 == 0))
        longest = _MONTHS[months] + ((months == 2) & leap)
        if (months < 1).any() or (days < 1).any() or (days > longest).any():
            raise Irregular
        # Years that begin in March have their leap day last.
        years = years - (months <= 2)
        within = (153 * ((months + 9) % 12) + 2) // 5 + days - 1
        return 365 * years + years // 4 - years // 100 + years // 400 + within - _EPOCH_DAY

    def _at(self, place: int) -> Bytes:
        return self._block.bytes_at(self._begins + place)

    def _check(self, found: Bytes, *wanted: int) -> None:
        if not np.isin(found, np.array(wanted, np.uint8)).all():
            raise Irregular

    def _number(self, place: int, size: int) -> Integers:
        value = np.zeros(len(self._begins), np.int64)
        for digit in range(place, place + size):
            byte = self._at(digit) - _ZERO
            if (byte > 9).any():
                raise Irregular
            value = value * 10 + byte
        return value
