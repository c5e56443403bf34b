"""The kind ``archive``: the records of a topic become versions of a dataset, a part after another.

A part is as many records of a partition as were asked for, or fewer where they are large or have
waited long enough. The datasets service knows each part by where it begins and keeps it once: after
a death between its answer and the commit of the offset the same part is sent again, or a longer
one, and the answer is the version that is there and how far it goes. So what is in a version
depends on when it was closed, but each record is in one version, or among the dead letters.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.kernel.errors import Invalid, ServiceError, TooLarge, Unavailable
from app.kernel.log.seam import MOST_BYTES_READ, Record
from app.streams.processors.handling import Outcome, Patience, Share, Stateless
from app.streams.processors.ports import Archives, Part
from app.streams.processors.values import Refused, json_object

MOST_ROWS: Final = 100_000
PLACES: Final = ("partition", "offset", "timestamp", "key", "id")
PREFIX: Final = "record_"
# A reading ends early before so many bytes: with half of them a part isn't waited for any longer.
_LARGE: Final = MOST_BYTES_READ // 2
_ROWS: Final = "/rows/"


class Archiving:
    """Archives records."""

    most = MOST_ROWS

    def __init__(self, archives: Archives, clock: Callable[[], float] = time.monotonic) -> None:
        self._archives = archives
        self._clock = clock

    def open(self, share: Share) -> "ArchiveHandler":
        """A handler; there is nothing kept."""
        return ArchiveHandler(share, self._archives, self._clock)


@dataclass(frozen=True)
class _Row:
    """What a record becomes."""

    record: Record
    values: Mapping[str, Any]


class ArchiveHandler(Stateless):
    """Archives the records of one partition."""

    def __init__(self, share: Share, archives: Archives, clock: Callable[[], float]) -> None:
        self._share = share
        self._archives = archives
        self._clock = clock
        self._first = -1
        self._since = 0.0

    def handle(self, records: Sequence[Record]) -> Outcome:
        """Archive the first part of them, or wait for more. Raises Unavailable."""
        config = self._share.config
        if records[0].offset != self._first:
            self._first, self._since = records[0].offset, self._clock()
        large = sum(len(record.value) for record in records) >= _LARGE
        left = self._since + config["seconds"] - self._clock()
        if len(records) < config["rows"] and not large and left > 0:
            return Outcome(patience=Patience(config["rows"], left))
        return self._archived(records[: config["rows"]])

    def _archived(self, records: Sequence[Record]) -> Outcome:
        rows: list[_Row] = []
        refused: list[tuple[Record, Refused]] = []
        for record in records:
            try:
                rows.append(_Row(record, row_of(record, self._share.config)))
            except Refused as error:
                refused.append((record, error))
        end = records[-1].offset + 1
        if rows:
            end, why = self._kept(rows, end)
            if why is not None:
                refused.append((rows[0].record, why))
        taken = sum(record.offset < end for record in records)
        lost = [one for one in refused if one[0].offset < end]
        return Outcome(taken=taken, refused=sorted(lost, key=lambda one: one[0].offset))

    def _kept(self, rows: Sequence[_Row], end: int) -> tuple[int, Refused | None]:
        """Keep the first rows, as many as make a table; the offset that is next, and why the very
        first row is refused, where it can't be in any."""
        while True:
            try:
                return self._sent(rows, end), None
            except (Invalid, TooLarge) as error:
                if len(rows) == 1:
                    return rows[0].record.offset + 1, Refused("not_a_row", error.detail)
                rows = rows[: _good(error, len(rows))]
                end = rows[-1].record.offset + 1

    def _sent(self, rows: Sequence[_Row], end: int) -> int:
        share = self._share
        part = Part(
            source=f"{share.processor}.{share.generation}",
            topic=share.topic,
            processor=share.name,
            partition=share.partition,
            first=self._first,
            next=end,
        )
        values = [row.values for row in rows]
        try:
            return self._archives.keep(share.call, share.config["dataset"], part, values)
        except (Invalid, TooLarge):
            raise
        except ServiceError as error:
            raise Unavailable(error.detail, retry_after=error.retry_after) from error


def row_of(record: Record, config: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a record; raises Refused. What it refuses depends on the record alone."""
    value, columns = json_object(record.value), config["columns"]
    row = value if columns is None else {name: value.get(name) for name in columns}
    if not row:
        raise Refused("no_fields", "The object has no fields")
    for name, cell in row.items():
        _check(name, cell)
    told = _place_of(record)
    for place in config["include"]:
        if PREFIX + place in row:
            raise Refused("name_taken", f"It has a field {PREFIX}{place} of its own")
        row[PREFIX + place] = told[place]
    return row


def _place_of(record: Record) -> dict[str, Any]:
    return {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp.isoformat().replace("+00:00", "Z"),
        "key": None if record.key is None else record.key.decode("utf-8", "replace"),
        "id": record.id,
    }


def _check(name: str, cell: Any) -> None:
    """Raise Refused for what no table can hold."""
    shown = name[:100].encode("ascii", "backslashreplace").decode()
    if isinstance(cell, dict | list):
        raise Refused("nested", f"The field {shown!r} is an object or a list")
    if isinstance(cell, float) and not math.isfinite(cell):
        raise Refused("not_a_number", f"The field {shown!r} is too large a number")
    try:
        text = (name + cell if isinstance(cell, str) else name).encode()
    except UnicodeEncodeError as error:
        raise Refused("not_text", f"The field {shown!r} has half a character in it") from error
    if b"\0" in text:
        raise Refused("not_text", f"The field {shown!r} has a NUL in it")


def _good(error: ServiceError, count: int) -> int:
    """How many of the first rows to try instead: those before the first that is named as bad, or
    half of them. A bad one at the front is tried alone."""
    bad = [
        int(number)
        for number in (one.pointer.removeprefix(_ROWS).split("/")[0] for one in error.errors)
        if number.isascii() and number.isdigit()
    ]
    first = min(bad, default=0)
    return max(1, first - 1) if 0 < first <= count else count // 2
