"""Measures of the values of a group: commutative monoids, so that parts merge in any order.

Sums are exact: integers as they are, floats as the binary fractions that they stand for, rounded
once, when they are told. So are means and variances, which are told from exact sums.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from app.streams.views.sketches import Distinct, Histogram

_LARGEST: Final = 1 << 1023


@dataclass(frozen=True)
class Measure:
    """What is measured: a function of a field's values; of all records, without a field."""

    name: str
    function: str
    field: str | None = None
    quantiles: tuple[float, ...] = ()


class Tally(Protocol):
    """What a measure holds of the values that it has seen."""

    ignored: int

    @property
    def size(self) -> int:
        """About how much room it takes, in numbers held."""

    def add(self, value: Any) -> None:
        """See a JSON value; None: there is none."""

    def merge(self, other: Any) -> None:
        """See all that another of its kind has seen."""

    def told(self, measure: Measure) -> Any:
        """The measure, as JSON."""

    def dump(self) -> Any:
        """What it holds, as JSON: the same for the same values, whatever their order."""

    def load(self, dumped: Any) -> None:
        """Hold what was dumped."""


class Exact:
    """An exact sum of finite numbers: an integer over a power of two."""

    __slots__ = ("shift", "top")

    def __init__(self, top: int = 0, shift: int = 0) -> None:
        self.top, self.shift = top, shift

    def add(self, number: float, *, power: int = 1) -> None:
        """Add a number's power."""
        top, bottom = number.as_integer_ratio()
        self._add(top**power, (bottom.bit_length() - 1) * power)

    def merge(self, other: "Exact") -> None:
        """Add another sum."""
        self._add(other.top, other.shift)

    def _add(self, top: int, shift: int) -> None:
        if shift > self.shift:
            self.top <<= shift - self.shift
            self.shift = shift
        self.top += top << (self.shift - shift)

    def over(self, count: int) -> float | int | None:
        """The sum divided by a count, rounded once; None beyond what a double holds."""
        bottom = count << self.shift
        if self.top % bottom == 0:
            return self.top // bottom
        return _divided(self.top, bottom)

    def variance(self, squares: "Exact", count: int) -> float | int | None:
        """The sample variance of ``count`` numbers of this sum and this sum of squares."""
        shift = max(2 * self.shift, squares.shift)
        sum_squared = self.top**2 << (shift - 2 * self.shift)
        top = count * (squares.top << (shift - squares.shift)) - sum_squared
        bottom = (count * (count - 1)) << shift
        return top // bottom if top % bottom == 0 else _divided(top, bottom)

    def dump(self) -> list[Any]:
        """What it holds, as JSON, in lowest terms."""
        spare = min(self.shift, (self.top & -self.top).bit_length() - 1) if self.top else 0
        shift = self.shift - spare if self.top else 0
        return [format(self.top >> spare, "x"), shift]

    @classmethod
    def loaded(cls, dumped: Sequence[Any]) -> "Exact":
        """One that holds what was dumped."""
        return cls(int(dumped[0], 16), dumped[1])


def _divided(top: int, bottom: int) -> float | None:
    try:
        return top / bottom
    except OverflowError:
        return None


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


class Count:
    """How many records have a value; or how many there are."""

    size = 1

    def __init__(self) -> None:
        self.ignored = 0
        self.count = 0

    def add(self, value: Any) -> None:
        """See a value."""
        self.count += value is not None

    def merge(self, other: "Count") -> None:
        """Add another count."""
        self.count += other.count

    def told(self, _measure: Measure) -> int:
        """The count."""
        return self.count

    def dump(self) -> Any:
        """The count."""
        return self.count

    def load(self, dumped: Any) -> None:
        """Hold a count."""
        self.count = dumped


class _OfNumbers:
    """Sees numbers; counts what is neither a number nor missing as ignored."""

    @property
    def size(self) -> int:
        """About how much room it takes, in numbers held."""
        return 4

    def __init__(self) -> None:
        self.ignored = 0
        self.count = 0

    def add(self, value: Any) -> None:
        """See a value."""
        if _is_number(value):
            self.count += 1
            self._see(value)
        else:
            self.ignored += value is not None

    def _see(self, number: float) -> None:
        raise NotImplementedError

    def _merge_counts(self, other: "_OfNumbers") -> None:
        self.count += other.count
        self.ignored += other.ignored


class Sum(_OfNumbers):
    """A sum, or a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.total = Exact()

    def _see(self, number: float) -> None:
        self.total.add(number)

    def merge(self, other: "Sum") -> None:
        """Add another sum."""
        self._merge_counts(other)
        self.total.merge(other.total)

    def told(self, measure: Measure) -> float | int | None:
        """The sum, 0 of nothing; or the mean, None of nothing."""
        if measure.function == "sum":
            return self.total.over(1)
        return self.total.over(self.count) if self.count else None

    def dump(self) -> Any:
        """Counts and the sum."""
        return [self.count, self.ignored, self.total.dump()]

    def load(self, dumped: Any) -> None:
        """Hold counts and a sum."""
        self.count, self.ignored, total = dumped
        self.total = Exact.loaded(total)


class Variance(_OfNumbers):
    """A sample variance."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.squares = Exact(), Exact()

    def _see(self, number: float) -> None:
        self.total.add(number)
        self.squares.add(number, power=2)

    def merge(self, other: "Variance") -> None:
        """Add the sums of another."""
        self._merge_counts(other)
        self.total.merge(other.total)
        self.squares.merge(other.squares)

    def told(self, _measure: Measure) -> float | int | None:
        """The variance; None of fewer than two numbers."""
        if self.count < 2:
            return None
        return self.total.variance(self.squares, self.count)

    def dump(self) -> Any:
        """Counts and the sums."""
        return [self.count, self.ignored, self.total.dump(), self.squares.dump()]

    def load(self, dumped: Any) -> None:
        """Hold counts and sums."""
        self.count, self.ignored, total, squares = dumped
        self.total, self.squares = Exact.loaded(total), Exact.loaded(squares)


class _Extreme(_OfNumbers):
    """The number that is chosen of any two."""

    def __init__(self, choose: Callable[[float, float], float]) -> None:
        super().__init__()
        self._choose = choose
        self.best: float | int | None = None

    def _see(self, number: float) -> None:
        if isinstance(number, float) and number.is_integer():
            # 1 and 1.0 are one number: which was seen first must not show.
            number = int(number)
        self.best = number if self.best is None else self._choose(self.best, number)

    def merge(self, other: "_Extreme") -> None:
        """Choose of both."""
        self._merge_counts(other)
        if other.best is not None:
            self._see(other.best)

    def told(self, _measure: Measure) -> float | int | None:
        """The number; None of nothing."""
        return self.best

    def dump(self) -> Any:
        """Counts and the number; as text, so that it stays what it is."""
        return [self.count, self.ignored, json.dumps(self.best)]

    def load(self, dumped: Any) -> None:
        """Hold counts and a number."""
        self.count, self.ignored, best = dumped
        self.best = json.loads(best)


class Least(_Extreme):
    """The smallest number."""

    def __init__(self) -> None:
        super().__init__(min)


class Greatest(_Extreme):
    """The largest number."""

    def __init__(self) -> None:
        super().__init__(max)


class DistinctValues:
    """How many distinct strings, numbers and booleans there are; others are ignored."""

    def __init__(self) -> None:
        self.ignored = 0
        self.sketch = Distinct()

    @property
    def size(self) -> int:
        """About how much room it takes, in numbers held."""
        return self.sketch.size

    def add(self, value: Any) -> None:
        """See a value."""
        if isinstance(value, str | bool) or _is_number(value):
            self.sketch.add(text_of(value))
        else:
            self.ignored += value is not None

    def merge(self, other: "DistinctValues") -> None:
        """See all that another has seen."""
        self.ignored += other.ignored
        self.sketch.merge(other.sketch)

    def told(self, _measure: Measure) -> int:
        """How many there are; an estimate, where they are many."""
        return self.sketch.estimate()

    def dump(self) -> Any:
        """The count of what was ignored, and the sketch."""
        return [self.ignored, self.sketch.dump()]

    def load(self, dumped: Any) -> None:
        """Hold a count and a sketch."""
        self.ignored = dumped[0]
        self.sketch = Distinct.load(dumped[1])


class Quantiles(_OfNumbers):
    """Quantiles, to within 0.8 % of their value."""

    def __init__(self) -> None:
        super().__init__()
        self.histogram = Histogram()

    @property
    def size(self) -> int:
        """About how much room it takes, in numbers held."""
        return self.histogram.size

    def _see(self, number: float) -> None:
        self.histogram.add(number)

    def merge(self, other: "Quantiles") -> None:
        """See all that another has seen."""
        self._merge_counts(other)
        self.histogram.merge(other.histogram)

    def told(self, measure: Measure) -> dict[str, float | None]:
        """The quantiles by their shares."""
        return {str(share): self.histogram.quantile(share) for share in measure.quantiles}

    def dump(self) -> Any:
        """Counts and the histogram."""
        return [self.count, self.ignored, self.histogram.dump()]

    def load(self, dumped: Any) -> None:
        """Hold counts and a histogram."""
        self.count, self.ignored, histogram = dumped
        self.histogram = Histogram.load(histogram)


def text_of(value: Any) -> str:
    """A string, number, boolean or None as canonical JSON: one text for 1 and 1.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


FUNCTIONS: Mapping[str, type[Tally]] = {
    "count": Count,
    "sum": Sum,
    "min": Least,
    "max": Greatest,
    "mean": Sum,
    "variance": Variance,
    "distinct": DistinctValues,
    "quantiles": Quantiles,
}
