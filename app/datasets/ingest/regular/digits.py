"""Decimal digits of many cells at once, eight in a 64-bit word; the first digit weighs least."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.text_blocks import KEPT, Floats, Integers, Mask, Words

_ZEROS = np.uint64(0x3030303030303030)
_NO_DIGIT = np.uint64(0x7676767676767676)
_HIGH = np.uint64(0x8080808080808080)
_PAIRS, _FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_EIGHT, _SIXTEEN, _THIRTY_TWO = np.uint64(8), np.uint64(16), np.uint64(32)
_EIGHT_DIGITS = np.uint64(10**8)
_POINTS, _LOW_BITS = np.uint64(0x2E2E2E2E2E2E2E2E), np.uint64(0x7F7F7F7F7F7F7F7F)
_MOST_DIGITS = 15
_LEAST = np.array([0, *(10**size for size in range(_MOST_DIGITS))], np.uint64)
# Not by a power of NumPy's, which need not be exact on every processor.
_POWERS = np.array([float(10**size) for size in range(17)])
# Where less than a word is kept: the zeros before it that make eight digits.
_FILLING = _ZEROS & ~KEPT


def read_digits(words: Words, lengths: Integers, place: int = 0) -> tuple[Words, Words]:
    """The numbers that the words at a place of texts are; and words that aren't zero where another
    byte than a digit is among them, in which case the number means nothing."""
    value = _FILLING[place].take(lengths)
    value |= words
    value ^= _ZEROS
    wrong = value + _NO_DIGIT
    wrong |= value
    wrong &= _HIGH
    value *= np.uint64(10 * 256 + 1)
    value >>= _EIGHT
    value &= _PAIRS
    value *= np.uint64(100 * (1 << 16) + 1)
    value >>= _SIXTEEN
    value &= _FOURS
    value *= np.uint64(10_000 * (1 << 32) + 1)
    value >>= _THIRTY_TWO
    return value, wrong


def eight_digits(values: Words) -> Words:
    """Numbers under 10**8 as eight digits each."""
    high: Words = values // np.uint64(10_000)
    fours = values - high * np.uint64(10_000)
    fours <<= _THIRTY_TWO
    fours |= high
    # Within each half: the quotient by 100, and by 10, as a multiplication.
    high = fours * np.uint64(10_486)
    high >>= np.uint64(20)
    high &= np.uint64(0x0000007F0000007F)
    pairs: Words = fours - high * np.uint64(100)
    pairs <<= _SIXTEEN
    pairs |= high
    high = pairs * np.uint64(103)
    high >>= np.uint64(10)
    high &= np.uint64(0x000F000F000F000F)
    pairs -= high * np.uint64(10)
    pairs <<= _EIGHT
    pairs |= high
    pairs |= _ZEROS
    return pairs


def decimal_words(values: Integers) -> list[np.ndarray[Any, Any]]:
    """Integers as text: the bytes of the words that aren't zero, in their order, are the digits.

    Not for -2**63, which has no opposite.
    """
    sizes = np.abs(values).view(np.uint64)
    millions = sizes // _EIGHT_DIGITS
    low = sizes - millions * _EIGHT_DIGITS
    high = millions // _EIGHT_DIGITS
    middle = millions - high * _EIGHT_DIGITS
    sign = np.where(values < 0, np.uint8(ord("-")), np.uint8(0))
    words = [eight_digits(part) for part in (high, middle, low)]
    leading = np.ones(len(values), np.bool_)
    shown: list[np.ndarray[Any, Any]] = [sign]
    for place, word in enumerate(words):
        shown.append(_without_zeros(word, leading, last=place == len(words) - 1))
    return shown


def _without_zeros(word: Words, leading: np.ndarray[Any, Any], *, last: bool) -> Words:
    """The digits but the leading zeros; ``leading`` tells of which numbers none was shown yet."""
    digits = word ^ _ZEROS
    # The lowest byte that isn't zero is the first digit shown.
    lowest = digits & (~digits + np.uint64(1))
    before = np.bitwise_count(lowest - np.uint64(1)) & np.uint8(0xF8)
    if last:
        np.minimum(before, np.uint8(56), out=before)
    cut = np.where(leading, before, np.uint8(0)).astype(np.uint64)
    gone = cut == 64
    shown = (word >> np.minimum(cut, np.uint64(63))) << np.minimum(cut, np.uint64(63))
    shown[gone] = 0
    leading &= digits == 0
    return shown


def read_decimals(words: Sequence[Words], lengths: Integers, negative: Mask) -> Floats:
    """The floats nearest to plain decimal numbers, of which those told are negative; zero where
    the length is zero. Zeros are positive.

    ``words`` hold the texts, the last eight bytes first. Raises Irregular for more than 15 digits:
    up to them, a number and the power of ten to divide it by are exact.
    """
    low, high, pointed, fraction = _without_point(words)
    digits = lengths - negative - pointed
    if digits.max() > _MOST_DIGITS or digits.min() < 0 or (pointed & (fraction == 0)).any():
        raise Irregular
    low &= KEPT[0].take(digits)
    value, wrong = read_digits(low, digits)
    if high is not None:
        high &= KEPT[1].take(digits)
        more, wrong_too = read_digits(high, digits, 1)
        value += more * _EIGHT_DIGITS
        wrong |= wrong_too
    whole = digits - fraction
    # A number begins with a zero only if that is all that stands before the point.
    padded = (whole > 1) & (value < _LEAST.take(digits))
    if wrong.any() or padded.any() or ((whole < 1) & (lengths > 0)).any():
        raise Irregular
    floats = value.astype(np.float64)
    floats /= _POWERS.take(fraction)
    np.negative(floats, out=floats, where=negative & (value != 0))
    return floats


def _without_point(words: Sequence[Words]) -> tuple[Words, Words | None, Mask, Integers]:
    """The last eight bytes of texts and the eight before, closed up where a point was, whether
    there was one, and how many bytes followed it."""
    low_point = _point(words[0])
    pointed = low_point != 0
    fraction = _bytes_above(low_point)
    if len(words) == 1:
        return _closed(words[0], low_point), None, pointed, fraction
    high_point = _point(words[1])
    pointed_high = high_point != 0
    if (pointed & pointed_high).any():
        raise Irregular
    high = _closed(words[1], high_point)
    low = _closed(words[0], low_point)
    low |= np.where(pointed, high >> np.uint64(56), np.uint64(0))
    high = np.where(pointed, high << _EIGHT, high)
    fraction = fraction + np.where(pointed_high, _bytes_above(high_point) + 8, 0)
    return low, high, pointed | pointed_high, fraction


def _point(word: Words) -> Words:
    """A one in the byte that is a point; raises Irregular where there are two."""
    other = word ^ _POINTS
    other = ((other & _LOW_BITS) + _LOW_BITS) | other | _LOW_BITS
    point = ~other >> np.uint64(7)
    if (point & (point - np.uint64(1))).any():
        raise Irregular
    return point


def _bytes_above(point: Words) -> Integers:
    """How many bytes of a word come after the point, zero where there is none."""
    below = np.bitwise_count(point - np.uint64(1)).astype(np.int64) >> 3
    above: Integers = np.maximum(7 - below, 0)
    return above


def _closed(word: Words, point: Words) -> Words:
    """A word without its point: what came before moves up by a byte."""
    below = word & (point - np.uint64(1))
    above = word & ~(point * np.uint64(0xFF) | (point - np.uint64(1)))
    return np.where(point != 0, (below << _EIGHT) | above, word)
