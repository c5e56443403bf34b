"""Records of topics: produced with their places told, read by position."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.kernel.auth import Call
from app.kernel.errors import Invalid, NotFound
from app.kernel.log.seam import Appended, Full, NewRecord, Record
from app.kernel.log.traced import beneath, sending
from app.streams.groups import lag, slowest
from app.streams.lookup import refuse_reserved
from app.streams.records.shared_reading import SharedReading
from app.streams.service import Topics
from app.streams.tables import Topic

_BEHIND_SECONDS = 1.0


@dataclass(frozen=True)
class Produced:
    """Where the records of a request lie, in the order in which they came."""

    topic: Topic
    offsets: Sequence[Appended]

    @property
    def etag(self) -> str:
        """Names the first one."""
        return _tag(self.topic, self.offsets[0].partition, self.offsets[0].offset)

    @property
    def subject(self) -> str:
        """The path of the first one below the API's prefix."""
        first = self.offsets[0]
        path = f"{self.topic.subject}/partitions/{first.partition}/records"
        return f"{path}?offset={first.offset}&limit=1"


@dataclass(frozen=True)
class Page:
    """Records of one partition from an offset on; a ``full`` page never changes."""

    items: Sequence[Record]
    next_offset: int
    full: bool
    etag: str


class Records:
    """What can be done with the records of topics; ``shared`` is for those who follow."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.log = topics.log
        self.shared = SharedReading(topics.log)

    def append(
        self, call: Call, name: str, records: Sequence[NewRecord], key: str | None
    ) -> Produced:
        """Append records, in their order in each partition.

        With an Idempotency-Key, those without an id get one that follows from it: so a retry after
        a crash doubles none. Raises NotFound, Conflict, Invalid, TooLarge, Full, Unavailable.
        """
        topic = self._topics.find(call, name)
        refuse_reserved(topic)
        self._refuse_ahead(topic)
        if key is not None:
            told = hashlib.sha256(f"{call.key_id}\0{key}".encode()).hexdigest()[:32]
            records = [
                record if record.id is not None else replace(record, id=f"{told}-{place}")
                for place, record in enumerate(records)
            ]
        with sending(topic.name, records) as span:
            produced = Produced(topic, self.log.append(topic.id, beneath(records, span.trace)))
        if call.reservation is not None:
            with self._topics.database.write() as session:
                call.reservation.complete(session, produced)
        return produced

    def _refuse_ahead(self, topic: Topic) -> None:
        """Raise Full where a reader is as far behind as it may be."""
        if topic.max_lag is None:
            return
        with self._topics.database.read() as session:
            offsets = slowest(session, topic.id)
        behind = lag(offsets, self.log.bounds(topic.id)) if offsets else {}
        for partition, records in behind.items():
            if records >= topic.max_lag:
                raise Full(
                    f"A reader of partition {partition} is {records} records behind:"
                    " nothing of this call was appended",
                    retry_after=_BEHIND_SECONDS,
                    extra={"partition": partition},
                )

    def page(
        self, call: Call, name: str, partition: int, offset: int | None, *, limit: int, wait: float
    ) -> Page:
        """Records from an offset on (default: the first that is kept); waits for one at the end.

        Raises NotFound, OffsetGone, Invalid for an offset that the partition has not come to.
        """
        topic = self._topics.find(call, name)
        self._refuse_strange(topic, partition)
        if offset is None:
            offset = self.log.bounds(topic.id)[partition][0]
        found = self.log.read(topic.id, partition, offset, limit)
        if not found:
            end = self.log.bounds(topic.id)[partition][1]
            if offset > end:
                told = f"The next record of the partition will have the offset {end}"
                raise Invalid.at("?offset", "out_of_range", told)
        if not found and wait:
            self.log.wait(topic.id, {partition: offset}, call.patience(wait))
            found = self.log.read(topic.id, partition, offset, limit)
        end = found[-1].offset + 1 if found else offset
        return Page(found, end, len(found) == limit, _tag(topic, partition, offset, end))

    def positions(self, call: Call, name: str) -> tuple[Topic, dict[int, tuple[int, int]]]:
        """A topic, and of each partition the first offset kept and the one that comes next."""
        topic = self._topics.find(call, name)
        return topic, self.log.bounds(topic.id)

    def _refuse_strange(self, topic: Topic, partition: int) -> None:
        if partition >= topic.partitions:
            raise NotFound(f"The topic {topic.name} has the partitions 0 to {topic.partitions - 1}")


def _tag(topic: Topic, *numbers: int) -> str:
    return "-".join([topic.id[-12:], *map(str, numbers)])
