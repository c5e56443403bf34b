"""Datetimes of many cells at once: microseconds since 1970.

Read are ``2013-01-31``, ``2013-01-31T10:30:00`` (or a space), with ``Z`` after it or not, and with
up to six digits of a second; of the years that ``cell_types`` has no exceptions for.
"""

import numpy as np

from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.text_blocks import Integers, TextBlock

_DATE, _TIME, _MOST = 10, 19, 26
_ZERO, _ZED = np.uint8(ord("0")), np.uint8(ord("Z"))
_WEIGHTS = 10 ** np.arange(5, -1, -1)
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
    """Texts of one length: their digits, and what stands between them."""

    def __init__(self, block: TextBlock, begins: Integers, length: int) -> None:
        if length < _DATE:
            raise Irregular
        self._bytes = block.bytes_at(begins[:, np.newaxis] + np.arange(length))
        self._length = length

    def stamps(self) -> Integers:
        """All of them."""
        self._check(4, b"-")
        self._check(7, b"-")
        years, months, days = self._number(0, 4), self._number(5, 2), self._number(8, 2)
        passed = _days(years, months, days)
        if self._length == _DATE:
            return passed * 86_400_000_000
        if self._length < _TIME:
            raise Irregular
        self._check(10, b"T ")
        self._check(13, b":")
        self._check(16, b":")
        hours, minutes, seconds = self._number(11, 2), self._number(14, 2), self._number(17, 2)
        if hours.max() > 23 or minutes.max() > 59 or seconds.max() > 59:
            raise Irregular
        micros = ((passed * 24 + hours) * 60 + minutes) * 60 + seconds
        stamps: Integers = micros * 1_000_000 + self._fraction()
        return stamps

    def _fraction(self) -> Integers | int:
        end = self._length
        if (self._bytes[:, -1] == _ZED).any():
            self._check(end - 1, b"Z")
            end -= 1
        if end == _TIME:
            return 0
        digits = end - _TIME - 1
        if not 0 < digits <= _MOST - _TIME - 1:
            raise Irregular
        self._check(_TIME, b".")
        return self._number(_TIME + 1, digits) * int(10 ** (_MOST - _TIME - 1 - digits))

    def _check(self, place: int, wanted: bytes) -> None:
        if self._bytes[:, place].tobytes().strip(wanted):
            raise Irregular

    def _number(self, place: int, size: int) -> Integers:
        digits = self._bytes[:, place : place + size] - _ZERO
        if digits.max() > 9:
            raise Irregular
        return digits @ _WEIGHTS[-size:]


def _days(years: Integers, months: Integers, days: Integers) -> Integers:
    """The days from 1970 on; raises Irregular where there is no such day, or it is too far."""
    if years.min() < 1000 or years.max() > 9998 or months.max() > 12:
        raise Irregular
    leap = (years % 4 == 0) & ((years % 100 != 0) | (years % 400 == 0))
    longest = _MONTHS[months] + ((months == 2) & leap)
    if months.min() < 1 or days.min() < 1 or (days > longest).any():
        raise Irregular
    # Years that begin in March have their leap day last.
    years = years - (months <= 2)
    within = (153 * ((months + 9) % 12) + 2) // 5 + days - 1
    return 365 * years + years // 4 - years // 100 + years // 400 + within - _EPOCH_DAY
