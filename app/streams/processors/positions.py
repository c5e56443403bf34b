"""Offsets to begin at: the earliest, the latest, those of a moment, or some that are named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.kernel.errors import FieldError, Invalid
from app.kernel.log.seam import OffsetGone, RecordLog

EARLIEST, LATEST, TIME, OFFSETS = "earliest", "latest", "time", "offsets"
STARTS: Final = (EARLIEST, LATEST, TIME, OFFSETS)


@dataclass(frozen=True)
class Start:
    """Where to begin; ``offsets`` are pairs of a partition and an offset."""

    to: str
    time: datetime | None = None
    offsets: Sequence[tuple[int, int]] = ()


def offsets_at(log: RecordLog, topic: str, start: Start) -> dict[int, int]:
    """The offsets of a start: of all partitions, or of those that are named; raises Invalid."""
    bounds = log.bounds(topic)
    if start.to == EARLIEST:
        return {partition: first for partition, (first, _) in bounds.items()}
    if start.to == LATEST:
        return {partition: end for partition, (_, end) in bounds.items()}
    if start.time is not None:
        return {
            partition: _at_time(log, topic, partition, within, start.time)
            for partition, within in bounds.items()
        }
    return _named(bounds, start.offsets)


def _named(
    bounds: Mapping[int, tuple[int, int]], offsets: Sequence[tuple[int, int]]
) -> dict[int, int]:
    found: dict[int, int] = {}
    errors = []
    for place, (partition, offset) in enumerate(offsets):
        if partition not in bounds:
            detail = f"The topic has the partitions 0 to {len(bounds) - 1}"
            errors.append(FieldError(f"/offsets/{place}/partition", "no_such_partition", detail))
        elif partition in found:
            errors.append(FieldError(f"/offsets/{place}/partition", "repeated", "Name it once"))
        elif not bounds[partition][0] <= offset <= bounds[partition][1]:
            first, end = bounds[partition]
            detail = f"There are the offsets {first} to {end}"
            errors.append(FieldError(f"/offsets/{place}/offset", "out_of_range", detail))
        else:
            found[partition] = offset
    if errors:
        raise Invalid("Not offsets of the topic", errors=errors)
    return found


def _at_time(
    log: RecordLog, topic: str, partition: int, within: tuple[int, int], moment: datetime
) -> int:
    """The first record that is not older than a moment.

    It is looked for by halves: where producers have sent times out of order, about there.
    """
    low, high = within
    while low < high:
        middle = (low + high) // 2
        try:
            found = log.read(topic, partition, middle, 1)
        except OffsetGone as error:
            low = min(high, error.first)
            continue
        if found and found[0].timestamp < moment:
            low = middle + 1
        else:
            high = middle
    return low
