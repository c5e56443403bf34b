"""Sketches of many values in little room: how many are distinct, and their quantiles.

What a sketch holds is a function of the set (distinct) or the multiset (quantiles) of the values
seen, never of their order: so two sketches of two parts, merged, are the sketch of the whole, to
the byte. That rules out t-digest and KLL, whose contents follow from the order of what came in.
"""

import hashlib
import math
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final

_INDEX_BITS: Final = 12
_REGISTERS: Final = 1 << _INDEX_BITS
_RANK_BITS: Final = 64 - _INDEX_BITS
MOST_COUNTED: Final = 256
"""Up to so many distinct values are counted exactly."""

_SUB_BITS: Final = 6
_SPAN: Final = 64 << _SUB_BITS
_SOME: Final = 4 * _SPAN
_DOUBLE, _BITS = struct.Struct(">d"), struct.Struct(">q")
_SMALLEST: Final = 2.0**-1022


class Distinct:
    """How many distinct texts were seen: exact while they are few, then by HyperLogLog.

    Beyond ``MOST_COUNTED`` the standard error is 1.6 %; the estimator is Ertl's, which needs no
    table of corrections.
    """

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.registers: bytearray | None = None

    def add(self, text: str) -> None:
        """See a text."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._see([int.from_bytes(digest)])

    def merge(self, other: "Distinct") -> None:
        """See all that another has seen."""
        theirs = other.registers
        if theirs is None:
            self._see(other.hashes)
            return
        mine = self._dense()
        self.registers = bytearray(map(max, mine, theirs))

    def _see(self, hashes: Iterable[int]) -> None:
        if self.registers is None:
            self.hashes.update(hashes)
            if len(self.hashes) > MOST_COUNTED:
                self._dense()
        else:
            _enter(self.registers, hashes)

    def _dense(self) -> bytearray:
        if self.registers is None:
            self.registers = bytearray(_REGISTERS)
            _enter(self.registers, self.hashes)
            self.hashes = set()
        return self.registers

    @property
    def size(self) -> int:
        """About how much room it takes, in numbers held."""
        return len(self.hashes) if self.registers is None else _REGISTERS // 64

    def estimate(self) -> int:
        """How many there are."""
        if self.registers is None:
            return len(self.hashes)
        counts = [0] * (_RANK_BITS + 2)
        for rank in self.registers:
            counts[rank] += 1
        total = _REGISTERS * _tau(1 - counts[-1] / _REGISTERS)
        for count in reversed(counts[1:-1]):
            total = (total + count) / 2
        total += _REGISTERS * _sigma(counts[0] / _REGISTERS)
        return round(_REGISTERS**2 / (2 * math.log(2) * total))

    def dump(self) -> Any:
        """What it holds, as JSON: hashes, or registers."""
        if self.registers is None:
            return sorted(f"{one:016x}" for one in self.hashes)
        return b64encode(self.registers).decode()

    @classmethod
    def load(cls, dumped: Any) -> "Distinct":
        """One that holds what was dumped."""
        made = cls()
        if isinstance(dumped, str):
            made.registers = bytearray(b64decode(dumped))
        else:
            made.hashes = {int(one, 16) for one in dumped}
        return made


def _enter(registers: bytearray, hashes: Iterable[int]) -> None:
    for one in hashes:
        index = one >> _RANK_BITS
        rank = _RANK_BITS + 1 - (one & ((1 << _RANK_BITS) - 1)).bit_length()
        registers[index] = max(registers[index], rank)


def _sigma(share: float) -> float:
    if share == 1:
        return math.inf
    total, weight, before = share, 1.0, -1.0
    while total != before:
        share *= share
        before = total
        total += share * weight
        weight += weight
    return total


def _tau(share: float) -> float:
    if share in (0.0, 1.0):
        return 0.0
    total, weight, before = 1 - share, 1.0, -1.0
    while total != before:
        share = math.sqrt(share)
        before = total
        weight /= 2
        total -= (1 - share) ** 2 * weight
    return total / 3


class Histogram:
    """Counts of numbers in buckets that grow with the numbers: quantiles to within 0.8 %.

    Each power of two has 64 buckets of one width, which are read off the number's own bits: no
    logarithm, hence the same on any machine. What is smaller than the largest number by more than
    2**64 counts as 0, so that there are 8193 buckets at most.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts = dict(counts or {})

    def add(self, number: float) -> None:
        """See a finite number."""
        bucket = _bucket_of(abs(number))
        self._see({-bucket if number < 0 else bucket: 1})

    def merge(self, other: "Histogram") -> None:
        """See all that another has seen."""
        self._see(other.counts)

    def _see(self, counts: Mapping[int, int]) -> None:
        for bucket, count in counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        if len(self.counts) > _SOME:
            self._settle()

    def _settle(self) -> None:
        """Count as 0 what is too small to be told apart from it."""
        least = max(map(abs, self.counts), default=0) - _SPAN
        small = [bucket for bucket in self.counts if bucket and abs(bucket) <= least]
        if small:
            zeros = sum(self.counts.pop(bucket) for bucket in small)
            self.counts[0] = self.counts.get(0, 0) + zeros

    @property
    def size(self) -> int:
        """About how much room it takes, in numbers held."""
        return len(self.counts)

    @property
    def count(self) -> int:
        """How many numbers it has seen."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """About the smallest number that is not below this share of all; None without any."""
        self._settle()
        rank = max(1, math.ceil(share * self.count))
        for bucket, count in sorted(self.counts.items()):
            rank -= count
            if rank <= 0:
                middle = _middle_of(abs(bucket))
                return -middle if bucket < 0 else middle
        return None

    def dump(self) -> Any:
        """What it holds, as JSON: buckets with their counts."""
        self._settle()
        return [[bucket, count] for bucket, count in sorted(self.counts.items())]

    @classmethod
    def load(cls, dumped: Any) -> "Histogram":
        """One that holds what was dumped."""
        return cls(dict(dumped))


def _bucket_of(number: float) -> int:
    if number < _SMALLEST:
        return 0
    bits: int = _BITS.unpack(_DOUBLE.pack(number))[0]
    return bits >> (52 - _SUB_BITS)


def _middle_of(bucket: int) -> float:
    if not bucket:
        return 0.0
    middle: float = _DOUBLE.unpack(_BITS.pack((2 * bucket + 1) << (51 - _SUB_BITS)))[0]
    return middle
