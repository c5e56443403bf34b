"""The cells of one column in a block: their values for the engine, their canonical text, counts.

A cell is taken only as a column's type is mostly written; whatever else could stand there, even
if it were of the type, raises Irregular.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.datasets.ingest.cell_words import NULL_WORDS
from app.datasets.ingest.regular.counts import Counted, added, counted, less
from app.datasets.ingest.regular.digits import decimal_words, read_decimals, read_digits
from app.datasets.ingest.regular.likely import Irregular
from app.datasets.ingest.regular.pieces import Piece, joined, narrow
from app.datasets.ingest.regular.stamps import read_stamps
from app.datasets.ingest.regular.text_blocks import Bytes, Integers, Mask, TextBlock, Words

_WORD = 8
_MINUS = ord("-")
_LEAST = np.array([1, 0, *(10 ** (size - 1) for size in range(2, 17))], np.uint64)
_LENGTHS = np.array(
    [0, *(int.from_bytes(f"{size}:".encode(), "little") for size in range(1, 65))], np.uint32
)
_TRUTH = {b"true": True, b"false": False}


def _as_word(text: bytes) -> int:
    return int.from_bytes(text.rjust(_WORD, b"\0"), "little")


_NULLS = np.array(sorted(_as_word(word.encode()) for word in NULL_WORDS), np.uint64)


@dataclass(frozen=True)
class Wanted:
    """What is asked of a column: ``chosen`` are the rows of the sample for quantiles, if there is
    one; ``counting`` ends where there are too many different values."""

    chosen: Mask | None
    counting: bool = True


@dataclass(frozen=True)
class BlockColumn:
    """A column's part of a block.

    ``buffers`` are Arrow's; ``text`` are the pieces of the canonical text, see ``pieces``;
    ``counts`` of its values (floats by their bits, strings as bytes); ``sampled`` of the chosen.
    """

    buffers: tuple[np.ndarray[Any, Any] | None, ...]
    text: tuple[Piece, ...]
    missing: int
    counts: Any = None
    sampled: Counted | None = None


def read_column(block: TextBlock, number: int, type_: str, wanted: Wanted) -> BlockColumn:
    """The column of a block as a type."""
    return _READERS[type_](_Cells(block, number), wanted)


class _Cells:
    """The cells of a column; ``words`` hold their bytes, the last eight first."""

    def __init__(self, block: TextBlock, number: int) -> None:
        self.block = block
        self.ends, self.lengths = block.ends[number], block.lengths[number]
        self.longest = int(self.lengths.max())
        places = max(1, -(-self.longest // _WORD))
        self.words = [block.words(self.ends, self.lengths, place) for place in range(places)]

    def text(self) -> tuple[Piece, ...]:
        """The pieces of their text as it stands in the file."""
        first = self.longest - _WORD * (len(self.words) - 1)
        return (narrow(self.words[-1], first), *reversed(self.words[:-1]))

    def without_missing(self, different: Words | None = None) -> tuple[Integers, Integers]:
        """The lengths, zero where a cell is missing, and those rows; their words are zero, too.

        ``different``: the different last words of the cells, if they are known.
        """
        nulls = _NULLS if different is None else different[np.isin(different, _NULLS)]
        if not len(nulls):
            return self.lengths, np.zeros(0, np.int64)
        missing = np.flatnonzero(np.isin(self.words[0], nulls))
        if not len(missing):
            return self.lengths, missing
        lengths = self.lengths.copy()
        lengths[missing] = 0
        self.drop(missing)
        return lengths, missing

    def drop(self, rows: Integers) -> None:
        """Those cells are missing. Raises Irregular unless they say so."""
        if not np.isin(self.words[0][rows], _NULLS).all():
            raise Irregular
        for word in self.words:
            word[rows] = 0


def _validity(missing: Integers, rows: int) -> Bytes | None:
    if not len(missing):
        return None
    return np.packbits(_present(missing, rows), bitorder="little")


def _present(missing: Integers, rows: int) -> Mask:
    present = np.ones(rows, np.bool_)
    present[missing] = False
    return present


def _counts(values: Integers, missing: Integers, wanted: Wanted) -> tuple[Any, Any]:
    """The counts of the values that aren't missing, and of those chosen among them."""
    if not wanted.counting:
        return None, None
    all_ = counted(values)
    if len(missing):
        # To take them away is cheaper than to leave them out.
        all_ = less(all_, counted(values[missing]))
    if wanted.chosen is None:
        return all_, None
    chosen = wanted.chosen.copy()
    chosen[missing] = False
    return all_, counted(values[chosen])


def _read_integers(cells: _Cells, wanted: Wanted) -> BlockColumn:
    if cells.longest >= len(_LEAST):
        raise Irregular
    values, odd = _whole(cells.words, cells.lengths)
    signed = values.view(np.int64)
    missing = np.flatnonzero(odd)
    if len(missing):
        missing = _read_negative(cells, missing, signed)
    return BlockColumn(
        (_validity(missing, len(signed)), signed),
        cells.text(),
        len(missing),
        *_counts(signed, missing, wanted),
    )


def _whole(words: list[Words], lengths: Integers) -> tuple[Words, Mask]:
    """The whole numbers that texts of digits are, and which of them are no such texts."""
    values, wrong = read_digits(words[0], lengths)
    if len(words) > 1:
        high, wrong_too = read_digits(words[1], lengths, 1)
        values += high * np.uint64(10**_WORD)
        wrong |= wrong_too
    odd = values < _LEAST.take(lengths)
    odd |= wrong != 0
    return values, odd


def _read_negative(cells: _Cells, odd: Integers, signed: Integers) -> Integers:
    """Put negative numbers into their rows, zero into those where it is missing: returns these."""
    ends, lengths = cells.ends[odd], cells.lengths[odd]
    negative = cells.block.first_bytes(ends, lengths) == _MINUS
    negative &= lengths > 1
    lengths = lengths[negative] - 1
    words = [cells.block.words(ends[negative], lengths, place) for place in range(len(cells.words))]
    values, wrong = _whole(words, lengths)
    if wrong.any() or not values.all():
        raise Irregular
    signed[odd[negative]] = -values.view(np.int64)
    missing: Integers = odd[~negative]
    cells.drop(missing)
    signed[missing] = 0
    return missing


def _read_numbers(cells: _Cells, wanted: Wanted) -> BlockColumn:
    if cells.longest > 2 * _WORD:
        raise Irregular
    lengths, missing = cells.without_missing()
    negative = cells.block.first_bytes(cells.ends, lengths) == _MINUS
    negative &= lengths > 0
    floats = read_decimals(cells.words, lengths, negative)
    floats[missing] = 0.0
    bits = floats.view(np.int64)
    text = decimal_words(bits)
    if len(missing):
        for piece in text:
            piece[missing] = 0
    return BlockColumn(
        (_validity(missing, len(bits)), floats),
        tuple(text),
        len(missing),
        *_counts(bits, missing, wanted),
    )


def _read_strings(cells: _Cells, wanted: Wanted) -> BlockColumn:
    counts: Any = None
    short = len(cells.words) == 1
    if wanted.counting and short:
        counts = counted(cells.words[0].view(np.int64))
    lengths, missing = cells.without_missing(counts and counts[0].view(np.uint64))
    if counts and len(missing):
        there = ~np.isin(counts[0].view(np.uint64), _NULLS)
        counts = counts[0][there], counts[1][there]
    rows = len(lengths)
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    text = cells.text()
    content = bytes(joined(text, rows))
    if len(content) != offsets[-1]:
        raise Irregular
    if wanted.counting and not short:
        counts = _text_counts(cells, content, offsets)
    return BlockColumn(
        (_validity(missing, rows), offsets, np.frombuffer(content or b"\0", np.uint8)),
        (_LENGTHS.take(lengths), *text),
        len(missing),
        counts,
    )


def _text_counts(cells: _Cells, content: bytes, offsets: Any) -> dict[bytes, int]:
    """How often each string occurs."""
    row, _, counts = _different(cells)
    begins, ends = offsets[row].tolist(), offsets[row + 1].tolist()
    return {
        content[begin:end]: count
        for begin, end, count in zip(begins, ends, counts.tolist(), strict=True)
    }


def _read_booleans(cells: _Cells, wanted: Wanted) -> BlockColumn:
    if len(cells.words) > 1:
        raise Irregular
    word = cells.words[0]
    true = np.zeros(len(word), np.bool_)
    missing = np.zeros(len(word), np.bool_)
    for one in np.unique(word):
        truth = _TRUTH.get(one.tobytes().lstrip(b"\0").lower())
        if truth is None:
            missing |= word == one
        elif truth:
            true |= word == one
    gone = np.flatnonzero(missing)
    cells.drop(gone)
    digits = true.astype(np.uint8) + np.uint8(ord("0"))
    digits[gone] = 0
    return BlockColumn(
        (_validity(gone, len(word)), np.packbits(true, bitorder="little")),
        (digits,),
        len(gone),
        *_counts(true.astype(np.int64), gone, wanted),
    )


def _read_datetimes(cells: _Cells, wanted: Wanted) -> BlockColumn:
    """Many rows have the same datetime, mostly: each is read once."""
    row, of, counts = _different(cells)
    gone = np.isin(cells.words[0][row], _NULLS)
    stamps = np.zeros(len(row), np.int64)
    there = row[~gone]
    stamps[~gone] = read_stamps(cells.block, cells.ends[there], cells.lengths[there])
    text = [piece for piece in decimal_words(stamps) if piece.any()]
    for piece in text:
        piece[gone] = 0
    missing = np.flatnonzero(gone[of]) if gone.any() else np.zeros(0, np.int64)
    found, sampled = None, None
    if wanted.counting:
        found = added(stamps[~gone], counts[~gone])
        if wanted.chosen is not None:
            times = np.bincount(of[wanted.chosen], minlength=len(row))
            times[gone] = 0
            seen = np.flatnonzero(times)
            sampled = added(stamps[seen], times[seen])
    return BlockColumn(
        (_validity(missing, len(of)), stamps.take(of)),
        tuple(piece.take(of) for piece in text),
        len(missing),
        found,
        sampled,
    )


def _different(cells: _Cells) -> tuple[Integers, Integers, Integers]:
    """A row in which each different cell stands, which of them is in each row, and how often each
    occurs."""
    mixed = cells.words[0].copy()
    for word in cells.words[1:]:
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed += word
    numbers, of = np.unique(mixed, return_inverse=True)
    row = np.zeros(len(numbers), np.int64)
    row[of] = np.arange(len(of))
    # Different texts may mix to the same number.
    if any((word[row].take(of) != word).any() for word in cells.words):
        raise Irregular
    return row, of, np.bincount(of)


_READERS: dict[str, Callable[[_Cells, Wanted], BlockColumn]] = {
    "integer": _read_integers,
    "number": _read_numbers,
    "string": _read_strings,
    "boolean": _read_booleans,
    "datetime": _read_datetimes,
}
