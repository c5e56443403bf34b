"""What every record log promises, whatever keeps it.

A topic has a fixed number of partitions. In each of them records have the offsets 0, 1, 2, ..
without a gap, in the order in which they were appended; what was appended never changes. Records
of one key lie in one partition, so their order is kept. Retention drops records from the front.

A record with an id is kept once: another of the same id is a duplicate for as long as the first
one is kept in its partition. So one that is sent again must name the same partition, the same key,
or neither: then its id says where it belongs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Literal, Protocol
from zlib import crc32

from sqlalchemy.orm import Session

from app.kernel.errors import Conflict, Gone, Invalid, TooManyRequests
from app.kernel.sql import in_transaction

MOST_BYTES_READ = 8_000_000
"""After so many bytes a reading ends early; it never ends before its first record."""

Overflow = Literal["reject", "drop_oldest"]


@dataclass(frozen=True)
class NewRecord:
    """A record to be appended.

    Its partition follows from its key, else from its id, else records take turns. ``timestamp`` is
    when it happened (default: now); retention counts from when it was appended.
    """

    value: bytes
    key: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    partition: int | None = None
    timestamp: datetime | None = None

    @property
    def size(self) -> int:
        """Its bytes, as ``max_bytes`` counts them at least."""
        headers = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.value) + len(self.key or b"") + headers + len(self.id or "")


@dataclass(frozen=True)
class Record:
    """A record as it was appended."""

    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes
    headers: Mapping[str, str]
    id: str | None


@dataclass(frozen=True)
class Appended:
    """Where a record lies; ``duplicate``: it did already."""

    partition: int
    offset: int
    duplicate: bool


@dataclass(frozen=True)
class Shape:
    """What a topic is like. The bounds hold for each partition.

    ``replicas`` is for logs that are replicated. A full partition refuses (``reject``) or drops
    its oldest records (``drop_oldest``); ``max_age`` drops them either way.
    """

    partitions: int
    replicas: int = 1
    max_age: timedelta | None = None
    max_records: int | None = None
    max_bytes: int | None = None
    overflow: Overflow = "reject"


class Full(TooManyRequests):
    """A partition of the topic is full: readers or retention must make room."""

    code, title = "log-full", "The log is full"


class OffsetGone(Gone):
    """Records from this offset on are no longer kept; ``first`` is the first one that is."""

    code, title = "offset-gone", "The offset is no longer kept"

    def __init__(self, first: int) -> None:
        super().__init__(f"The first record kept has offset {first}", extra={"first": first})

    @property
    def first(self) -> int:
        """The first offset that can be read."""
        return int(self.extra["first"])


class RecordLog(Protocol):
    """Topics by opaque names. All calls raise NotFound for no topic, Unavailable when cut off."""

    def create(self, topic: str, shape: Shape) -> None:
        """Make a topic; the same again changes nothing. Raises Conflict for another shape."""

    def change(self, topic: str, shape: Shape) -> None:
        """Give a topic other bounds. Raises Conflict for another number of partitions."""

    def delete(self, topic: str) -> None:
        """Forget a topic and its records; one that isn't there is no error."""

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Appended]:
        """Append durably, in order in each partition; never inside a transaction.

        Raises Full where a partition is full, TooLarge for a record that can't be kept, Invalid
        for a partition that isn't there. After Unavailable it is unknown which records were
        appended: those with ids can be sent again.
        """

    def append_in(self, session: Session, topic: str, records: Sequence[NewRecord]) -> None:
        """Append once if the caller's transaction commits, and not at all if it doesn't.

        Raises what ``append`` raises. A reader may see the records a little later.
        """

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """The records from an offset on, fewer than ``limit`` where they are large.

        Empty at the end. Raises OffsetGone where retention has dropped the offset.
        """

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset that is kept and the one that comes next."""

    def wait(
        self,
        topic: str,
        positions: Mapping[int, int],
        timeout: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Until a partition has a record at its position, or the time is over, or ``stopped``."""

    def trim(self) -> int:
        """Drop what retention lets go, by and by; the count of what this call has dropped."""

    def ping(self) -> None:
        """Raises Unavailable when records can't be appended and read."""

    def close(self) -> None:
        """Give back what is held."""


class Placing:
    """Which partition each record belongs to."""

    def __init__(self) -> None:
        self._turns = count()

    def place(self, records: Sequence[NewRecord], partitions: int) -> dict[int, list[int]]:
        """The places of the records in their sequence, by partition and in order of partitions."""
        placed: dict[int, list[int]] = {}
        for place, record in enumerate(records):
            partition = self._of(record, partitions)
            if not 0 <= partition < partitions:
                raise Invalid.at(
                    f"/records/{place}/partition",
                    "no_such_partition",
                    f"The topic has the partitions 0 to {partitions - 1}",
                )
            placed.setdefault(partition, []).append(place)
        return dict(sorted(placed.items()))

    def _of(self, record: NewRecord, partitions: int) -> int:
        if record.partition is not None:
            return record.partition
        if record.key is not None:
            return crc32(record.key) % partitions
        if record.id is not None:
            return crc32(record.id.encode()) % partitions
        return next(self._turns) % partitions


def refuse_inside() -> None:
    """Raise RuntimeError inside a transaction: an append would wait for it, or it for the log."""
    if in_transaction():
        raise RuntimeError("nothing is appended inside a transaction but by append_in")


def refuse_other_partitions(old: Shape, new: Shape) -> None:
    """Raise Conflict where a change would move records."""
    if old.partitions != new.partitions:
        raise Conflict("The number of partitions can't be changed: keys would change their places")
