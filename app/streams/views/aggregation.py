"""Records to groups with their measures: the fold that the batch and the speed layer share.

A fold of two parts, merged, is the fold of the whole, to the byte: ``Groups`` dump to the same
rows, whatever the order of records and merges. A record whose value is no JSON object, or whose
group is named by something else than short scalars, is skipped and counted.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from app.streams.views.measures import FUNCTIONS, Measure, Tally, text_of

LONGEST_KEY: Final = 400
_MODULUS: Final = 1 << 256
_DECODER: Final = msgspec.json.Decoder()


def key_of(values: Sequence[Any]) -> str | None:
    """The text of a group's values: a JSON array in ASCII; None for what names no group."""
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        return None
    text = "[" + ",".join(map(text_of, values)) + "]"
    return text if len(text) <= LONGEST_KEY else None


@dataclass
class Groups:
    """What a fold has made: the tallies of each group, and how many records it saw."""

    tallies: dict[str, list[Tally]] = field(default_factory=dict)
    records: int = 0
    skipped: int = 0

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each group's key and its tallies as text, in the order of the keys."""
        for key in sorted(self.tallies):
            yield key, dumped(self.tallies[key])

    @property
    def size(self) -> int:
        """About how much room they take, in numbers held."""
        return sum(1 + tally.size for tallies in self.tallies.values() for tally in tallies)

    def digest(self) -> str:
        """The digest of all rows."""
        return digest_of(row_digest(key, text) for key, text in self.rows())


def dumped(tallies: Sequence[Tally]) -> str:
    """A group's tallies as text, the same for the same values seen."""
    return msgspec.json.encode([tally.dump() for tally in tallies]).decode()


def row_digest(key: str, text: str | None) -> int:
    """A row's part in a digest; 0 of one that isn't there."""
    if text is None:
        return 0
    return int.from_bytes(hashlib.sha256(f"{key}\n{text}".encode()).digest())


def digest_of(parts: Iterable[int], before: str = "0") -> str:
    """A digest of rows in any order: it follows a row that changes without reading the others."""
    return format((int(before, 16) + sum(parts)) % _MODULUS, "064x")


@dataclass(frozen=True)
class Aggregation:
    """What an aggregate view tells of its topic."""

    group_by: tuple[str, ...]
    measures: tuple[Measure, ...]

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "Aggregation":
        """That of a stored definition."""
        measures = (
            Measure(
                name=one["name"],
                function=one["function"],
                field=one.get("field"),
                quantiles=tuple(one.get("quantiles", (0.5,))),
            )
            for one in definition["measures"]
        )
        return cls(tuple(definition["group_by"]), tuple(measures))

    def fold(self, values: Iterable[bytes], groups: Groups | None = None) -> Groups:
        """Fold the values of records in, into nothing or into what there is."""
        groups = Groups() if groups is None else groups
        for value in values:
            groups.records += 1
            record = _decoded(value)
            key = None if record is None else key_of([record.get(name) for name in self.group_by])
            if record is None or key is None:
                groups.skipped += 1
                continue
            tallies = groups.tallies.get(key)
            if tallies is None:
                tallies = groups.tallies[key] = self.nothing()
            for measure, tally in zip(self.measures, tallies, strict=True):
                # Without a field every record counts.
                tally.add(True if measure.field is None else record.get(measure.field))
        return groups

    def nothing(self) -> list[Tally]:
        """The tallies of a group that no record is of."""
        return [FUNCTIONS[measure.function]() for measure in self.measures]

    def load(self, text: str) -> list[Tally]:
        """The tallies that were dumped."""
        tallies = self.nothing()
        for tally, one in zip(tallies, msgspec.json.decode(text), strict=True):
            tally.load(one)
        return tallies

    def merged(self, texts: Iterable[str | None]) -> list[Tally] | None:
        """The tallies of a group from those of its parts; None where no part has any."""
        found = [self.load(text) for text in texts if text is not None]
        if not found:
            return None
        first, *rest = found
        for other in rest:
            merge(first, other)
        return first

    def told(self, tallies: Sequence[Tally]) -> dict[str, Any]:
        """The measures by name."""
        pairs = zip(self.measures, tallies, strict=True)
        return {measure.name: tally.told(measure) for measure, tally in pairs}

    def ignored(self, tallies: Sequence[Tally]) -> dict[str, int]:
        """How many values a measure could not take, by name, where there are any."""
        pairs = zip(self.measures, tallies, strict=True)
        return {measure.name: tally.ignored for measure, tally in pairs if tally.ignored}


def merge(tallies: Sequence[Tally], others: Sequence[Tally]) -> None:
    """Add a part's tallies to another's of the same group."""
    for tally, other in zip(tallies, others, strict=True):
        tally.merge(other)


def _decoded(value: bytes) -> dict[str, Any] | None:
    try:
        record = _DECODER.decode(value)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
