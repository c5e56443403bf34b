"""How often each value of a column occurs: counted block by block, added up in bounded memory."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from app.datasets.ingest.regular.text_blocks import Integers

_MOST_BYTES = 24 << 20
_VALUE_BYTES, _TEXT_BYTES = 16, 160
Counted = tuple[Integers, Integers]


def counted(values: Integers) -> Counted:
    """The different values in order, and how often each occurs."""
    if not len(values):
        return values, values
    least, most = int(values.min()), int(values.max())
    if most - least < 2 * len(values):
        counts = np.bincount(values - least)
        found = np.flatnonzero(counts)
        return found + least, counts[found]
    values = np.sort(values)
    changes = np.flatnonzero(values[1:] != values[:-1])
    changes += 1
    first = np.concatenate([[0], changes])
    return values[first], np.diff(first, append=len(values))


def less(all_: Counted, some: Counted) -> Counted:
    """The counts without some of the occurrences."""
    values, counts = all_
    counts = counts.copy()
    counts[np.searchsorted(values, some[0])] -= some[1]
    left = np.flatnonzero(counts)
    return values[left], counts[left]


def added(values: Integers, counts: Integers) -> Counted:
    """The same of values that may stand there several times, each with its count."""
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    changes = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    first = np.flatnonzero(changes)
    return values[first], np.add.reduceat(counts, first) if len(first) else counts


class ValueCounts:
    """Counts of integers; ``given_up`` where there were too many different ones. ``size`` is
    about the memory that they take."""

    def __init__(self) -> None:
        self._parts: list[Counted] = []
        self.given_up = False
        self.size = 0

    def add(self, found: Counted) -> None:
        """Add what was counted in a block."""
        self._parts.append(found)
        self.size += len(found[0]) * _VALUE_BYTES

    def compact(self) -> None:
        """Let every value stand there once."""
        self._parts = [self.total()]
        self.size = len(self._parts[0][0]) * _VALUE_BYTES

    def give_up(self) -> None:
        """Forget them: the table must be asked."""
        self.given_up, self._parts, self.size = True, [], 0

    def total(self) -> Counted:
        """All of them, in the order of the values."""
        nothing = np.zeros(0, np.int64)
        parts = [(nothing, nothing), *self._parts]
        values, counts = (np.concatenate(side) for side in zip(*parts, strict=True))
        return added(values, counts)


class TextCounts:
    """Counts of texts, as ``ValueCounts``. Those of up to eight bytes are counted as integers:
    their bytes, the last one weighing most."""

    def __init__(self) -> None:
        self._short = ValueCounts()
        self._long: Counter[bytes] = Counter()
        self.given_up = False

    @property
    def size(self) -> int:
        """About the memory that they take."""
        return self._short.size + len(self._long) * _TEXT_BYTES

    def add(self, found: Counted | Mapping[bytes, int]) -> None:
        """Add what was counted in a block."""
        if isinstance(found, tuple):
            self._short.add(found)
        else:
            self._long.update(found)

    def compact(self) -> None:
        """Let every text stand there once."""
        self._short.compact()

    def give_up(self) -> None:
        """Forget them: the table must be asked."""
        self.given_up = True
        self._short.give_up()
        self._long.clear()

    def total(self) -> Counter[bytes]:
        """All of them."""
        values, counts = self._short.total()
        words = values.tobytes()
        found = Counter(self._long)
        for place, count in zip(range(0, len(words), 8), counts.tolist(), strict=True):
            found[words[place : place + 8].lstrip(b"\0")] += count
        del found[b""]
        return found


def keep_within_memory(counts: Sequence[ValueCounts | TextCounts]) -> None:
    """Give up what takes most, until all others fit."""
    if _size(counts) <= _MOST_BYTES:
        return
    for one in counts:
        one.compact()
    for one in sorted(counts, key=lambda one: -one.size):
        # Half of it, so that they aren't compacted again with every further block.
        if _size(counts) > _MOST_BYTES // 2:
            one.give_up()


def _size(counts: Iterable[ValueCounts | TextCounts]) -> int:
    return sum(one.size for one in counts)
