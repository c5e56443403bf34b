"""ADWIN: a window over a stream of numbers that shrinks where their mean has changed.

A. Bifet, R. Gavalda: Learning from time-changing data with adaptive windowing (SIAM Data Mining
2007). The window is an exponential histogram: O(log n) buckets; it is cut where the means of its
two halves differ by more than chance allows at the given confidence. Unchanged streams raise a
false alarm about as rarely as ``delta`` says; the memory is a few kilobytes whatever their length.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

_EACH: Final = 5
_LOOK_EVERY: Final = 32
_LEAST_HALF: Final = 5

WORSE: Final = "worse"
BETTER: Final = "better"


class Adwin:
    """Takes numbers in 0..1, one at a time, and says when their mean has changed."""

    def __init__(self, delta: float = 0.002) -> None:
        self.delta = delta
        self.count = 0
        self._total = 0.0
        self._squares = 0.0
        self._since = 0
        # Row r holds buckets of 2**r numbers as (sum, squares around their mean), the oldest first.
        self._rows: list[list[tuple[float, float]]] = [[]]

    @property
    def mean(self) -> float:
        """The mean over the window."""
        return self._total / self.count if self.count else 0.0

    def add(self, value: float) -> str | None:
        """Take a number in; ``worse``: the mean has risen, ``better``: it has fallen.

        What came before the change is forgotten.
        """
        if self.count:
            self._squares += (value - self.mean) ** 2 * self.count / (self.count + 1)
        self.count += 1
        self._total += value
        self._rows[0].append((value, 0.0))
        self._compress()
        self._since += 1
        if self._since < _LOOK_EVERY:
            return None
        self._since = 0
        return self._cut()

    def _compress(self) -> None:
        for row, buckets in enumerate(self._rows):
            if len(buckets) <= _EACH:
                return
            if row + 1 == len(self._rows):
                self._rows.append([])
            (first, first_squares), (second, second_squares) = buckets[:2]
            del buckets[:2]
            apart = (first - second) ** 2 / (2 << row)
            merged = (first + second, first_squares + second_squares + apart)
            self._rows[row + 1].append(merged)

    def _cut(self) -> str | None:
        found = None
        while change := self._change():
            found = found or change
            self._drop_oldest()
        return found

    def _change(self) -> str | None:
        """Which way the mean has gone between an older and a newer part; None: it hasn't."""
        if self.count < 2 * _LEAST_HALF:
            return None
        variance = self._squares / self.count
        confidence = math.log(2 * math.log(self.count) / self.delta)
        older, older_total = 0, 0.0
        for row in range(len(self._rows) - 1, -1, -1):
            for total, _ in self._rows[row]:
                older += 1 << row
                older_total += total
                newer = self.count - older
                if newer < _LEAST_HALF:
                    return None
                if older < _LEAST_HALF:
                    continue
                apart = (self._total - older_total) / newer - older_total / older
                inverse = 1 / older + 1 / newer
                chance = math.sqrt(2 * inverse * variance * confidence)
                if abs(apart) > chance + 2 / 3 * confidence * inverse:
                    return WORSE if apart > 0 else BETTER
        return None

    def _drop_oldest(self) -> None:
        row = len(self._rows) - 1
        total, squares = self._rows[row].pop(0)
        size = 1 << row
        self.count -= size
        self._total -= total
        between = (total / size - self.mean) ** 2 * size * self.count / (size + self.count)
        self._squares = max(self._squares - squares - between, 0.0)
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON knows it."""
        return {
            "delta": self.delta,
            "count": self.count,
            "total": self._total,
            "squares": self._squares,
            "since": self._since,
            "rows": [[list(bucket) for bucket in row] for row in self._rows],
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Adwin":
        """The window that ``as_dict`` told."""
        window = cls(told["delta"])
        window.count, window._since = told["count"], told["since"]
        window._total, window._squares = told["total"], told["squares"]
        window._rows = [[(total, squares) for total, squares in row] for row in told["rows"]]
        return window
