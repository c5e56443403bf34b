"""Keyed windows by event time: a pure fold of one partition's records.

A window covers ``[start, start + size)`` and starts at a multiple of ``hop`` since 1970. The
watermark is the latest event time seen; a window closes when the watermark has passed its end by
``lateness``. What a record adds and closes depends on the records before it alone, never on how
they were cut into batches: so a fold that is taken up from its kept state goes on as it would have.

Times are whole microseconds. Whole numbers are added exactly; a sum that leaves the range of a
float, once floats are in it, is told as null.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

FUNCTIONS: Final = ("count", "sum", "min", "max", "mean")
MOST_OPEN: Final = 10_000
"""So many windows of a partition may be open at once."""
Number = int | float


class Place(NamedTuple):
    """Which window, of which key."""

    start: int
    key: bytes


@dataclass(frozen=True)
class Aggregate:
    """A function of the values of a field; ``count`` without one counts records."""

    function: str
    field: str | None = None


@dataclass(frozen=True)
class Windowing:
    """How records are gathered, and what is told of them."""

    size: int
    hop: int
    lateness: int
    aggregates: Mapping[str, Aggregate]
    on_change: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """The fields whose values are needed."""
        return frozenset(one.field for one in self.aggregates.values() if one.field is not None)

    def starts(self, time: int) -> Iterator[int]:
        """The starts of the windows that a moment lies in, the earliest first."""
        last = time // self.hop * self.hop
        first = last - (self.size - 1 - (time - last)) // self.hop * self.hop
        return iter(range(first, last + 1, self.hop))


@dataclass
class Spread:
    """Count, sum, least and greatest of numbers; ``total`` is None once it is past a float."""

    count: int = 0
    total: Number | None = 0
    least: Number | None = None
    greatest: Number | None = None

    def add(self, value: Number) -> None:
        """Take one number in."""
        self.count += 1
        self.total = _sum(self.total, value)
        self.least = value if self.least is None else min(self.least, value)
        self.greatest = value if self.greatest is None else max(self.greatest, value)

    def tell(self, function: str) -> Number | None:
        """What a function makes of the numbers; None of no numbers, but for their count."""
        if function == "count":
            return self.count
        if not self.count:
            return None
        if function == "mean":
            return _quotient(self.total, self.count)
        return {"sum": self.total, "min": self.least, "max": self.greatest}[function]


@dataclass
class Gathered:
    """What has come into one window of one key."""

    count: int = 0
    spreads: dict[str, Spread] = field(default_factory=dict)

    def add(self, values: Mapping[str, Number]) -> None:
        """Take one record in."""
        self.count += 1
        for name, value in values.items():
            self.spreads.setdefault(name, Spread()).add(value)

    def as_json(self) -> list[Any]:
        """The form that is kept."""
        rows = {
            name: [one.count, one.total, one.least, one.greatest]
            for name, one in sorted(self.spreads.items())
        }
        return [self.count, rows]

    @classmethod
    def from_json(cls, kept: Sequence[Any]) -> "Gathered":
        """From the form that was kept."""
        return cls(kept[0], {name: Spread(*row) for name, row in kept[1].items()})


@dataclass(frozen=True)
class Told:
    """What is told of a window; ``final``: it is closed."""

    place: Place
    end: int
    values: Mapping[str, Number | None]
    final: bool


class TooManyWindows(Exception):
    """A record would open one window more than may be open."""


class WindowFold:
    """The open windows of one partition and its watermark."""

    def __init__(
        self,
        windowing: Windowing,
        watermark: int | None = None,
        windows: Iterable[tuple[Place, Gathered]] = (),
        most: int = MOST_OPEN,
    ) -> None:
        self.watermark = watermark
        self._windowing = windowing
        self._most = most
        self._open: dict[int, dict[bytes, Gathered]] = {}
        self._starts: list[int] = []
        self._count = 0
        self._changed: set[Place] = set()
        for place, gathered in windows:
            self._put(place, gathered)

    def take(self, key: bytes, time: int, values: Mapping[str, Number]) -> list[Told] | None:
        """Take a record in: what is to be told now; None where it is late for all its windows.

        A record that is late for some windows counts in the others. Raises TooManyWindows, and then
        nothing has changed.
        """
        starts = [start for start in self._windowing.starts(time) if not self._is_closed(start)]
        if not starts:
            return None
        new = sum(key not in self._open.get(start, ()) for start in starts)
        if self._count + new > self._most:
            raise TooManyWindows
        told = []
        for start in starts:
            place = Place(start, key)
            gathered = self._open.get(start, {}).get(key) or self._put(place, Gathered())
            gathered.add(values)
            self._changed.add(place)
            if self._windowing.on_change:
                told.append(self._tell(place, gathered, final=False))
        if self.watermark is None or time > self.watermark:
            self.watermark = time
            told.extend(self._close())
        return told

    def open_windows(self) -> Iterator[tuple[Place, Gathered]]:
        """All that is open, in order."""
        for start in sorted(self._open):
            for key in sorted(self._open[start]):
                yield Place(start, key), self._open[start][key]

    def changes(self) -> list[tuple[Place, Gathered | None]]:
        """The windows changed since this was asked last, in order; None: it has been closed."""
        changed, self._changed = self._changed, set()
        return [
            (place, self._open.get(place.start, {}).get(place.key)) for place in sorted(changed)
        ]

    def _put(self, place: Place, gathered: Gathered) -> Gathered:
        if place.start not in self._open:
            self._open[place.start] = {}
            heapq.heappush(self._starts, place.start)
        self._open[place.start][place.key] = gathered
        self._count += 1
        return gathered

    def _is_closed(self, start: int) -> bool:
        end = start + self._windowing.size + self._windowing.lateness
        return self.watermark is not None and end <= self.watermark

    def _close(self) -> Iterator[Told]:
        """Close what the watermark has passed, the earliest first."""
        while self._starts and self._is_closed(self._starts[0]):
            start = heapq.heappop(self._starts)
            by_key = self._open.pop(start)
            self._count -= len(by_key)
            for key in sorted(by_key):
                place = Place(start, key)
                self._changed.add(place)
                yield self._tell(place, by_key[key], final=True)

    def _tell(self, place: Place, gathered: Gathered, *, final: bool) -> Told:
        values = {
            name: gathered.count
            if one.field is None
            else gathered.spreads.get(one.field, Spread()).tell(one.function)
            for name, one in self._windowing.aggregates.items()
        }
        return Told(place, place.start + self._windowing.size, values, final)


def _sum(total: Number | None, value: Number) -> Number | None:
    if total is None:
        return None
    try:
        added = total + value
    except OverflowError:
        return None
    return added if isinstance(added, int) or math.isfinite(added) else None


def _quotient(total: Number | None, count: int) -> float | None:
    if total is None:
        return None
    try:
        return total / count
    except OverflowError:
        return None
