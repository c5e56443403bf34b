"""A record log in NATS JetStream, one replicated stream for each partition.

An offset is the stream's sequence, less one. Readers name the offset that they want: no consumer
is kept in NATS. What is appended within a transaction goes by an outbox in its database.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy.orm import Session

from app.kernel.errors import NotFound
from app.kernel.log.nats_append import MOST_BYTES_TOGETHER, MOST_TOGETHER, Appending
from app.kernel.log.nats_link import Address, Link
from app.kernel.log.nats_messages import messages_of, record_of
from app.kernel.log.nats_stream import (
    Patience,
    ask,
    bounds_of,
    delete_streams,
    info,
    make_streams,
    shape_of,
    stored,
)
from app.kernel.log.outbox import Outbox
from app.kernel.log.seam import (
    MOST_BYTES_READ,
    Appended,
    NewRecord,
    OffsetGone,
    Placing,
    Record,
    Shape,
    refuse_inside,
    refuse_other_partitions,
)
from app.kernel.log.watch import Watch
from app.kernel.sql import Database, utc_now

_AT_ONCE = 16
"""Batches that a process has on their way; a stream takes 50 from all of them."""
_MOST_READ = 1000
_LOOK_SECONDS = 1.0
_WAKE = "modelyard.wake"
_LATE_SECONDS = 2.0


class NatsLog:
    """Topics in a NATS cluster; ``database`` holds the outbox."""

    def __init__(
        self, address: Address, database: Database, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._link = Link(address, self._greet)
        self._clock = clock
        self._placing = Placing()
        self._shapes: dict[str, Shape] = {}
        self._watch = Watch(self._ends, _LOOK_SECONDS)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._outbox = Outbox(database, self.append, clock)

    async def _greet(self, client: Client) -> None:
        """In each process: its own places, and a relay of its own."""
        self._places = asyncio.Semaphore(_AT_ONCE)

        async def wake(message: Msg) -> None:
            topic, partition, end = json.loads(message.data)
            self._watch.tell(topic, {partition: end})

        await client.subscribe(_WAKE, cb=wake)
        self._outbox.start()

    def create(self, topic: str, shape: Shape) -> None:
        """Make a topic; the same again changes nothing. Raises Conflict for another shape."""
        self._link.run(lambda client: make_streams(client, topic, shape, "CREATE"))

    def change(self, topic: str, shape: Shape) -> None:
        """Give a topic other bounds. Raises Conflict for another number of partitions."""
        refuse_other_partitions(self._shape(topic, afresh=True), shape)
        self._link.run(lambda client: make_streams(client, topic, shape, "UPDATE"))
        self._shapes[topic] = shape

    def delete(self, topic: str) -> None:
        """Forget a topic and its records; one that isn't there is no error."""
        try:
            partitions = self._shape(topic, afresh=True).partitions
        except NotFound:
            return
        self._link.run(lambda client: delete_streams(client, topic, partitions))
        self._shapes.pop(topic, None)

    def _shape(self, topic: str, *, afresh: bool = False) -> Shape:
        """What a topic is like; the number of its partitions stays true."""
        known = None if afresh else self._shapes.get(topic)
        if known is None:
            known = shape_of(self._link.run(lambda client: info(client, topic, 0)))
            self._shapes[topic] = known
        return known

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Appended]:
        """Append durably, a batch of each partition as a whole; see the seam."""
        refuse_inside()
        placed = self._placing.place(records, self._shape(topic).partitions)
        told: dict[int, Appended] = {}

        async def append(client: Client) -> None:
            work = (
                self._append(client, topic, partition, [records[place] for place in places])
                for partition, places in placed.items()
            )
            ended = await asyncio.gather(*work, return_exceptions=True)
            for places, outcome in zip(placed.values(), ended, strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                told.update(zip(places, outcome, strict=True))

        self._link.run(append)
        return [told[place] for place in range(len(records))]

    async def _append(
        self, client: Client, topic: str, partition: int, records: Sequence[NewRecord]
    ) -> list[Appended]:
        first: dict[str, int] = {}
        twice = {
            place: first[record.id]
            for place, record in enumerate(records)
            if record.id is not None and first.setdefault(record.id, place) != place
        }
        once = [place for place in range(len(records)) if place not in twice]
        told: dict[int, Appended] = {}
        for places in _chunks(once, records):
            mark = client.new_inbox().rpartition(".")[2]
            some = [records[place] for place in places]
            messages = messages_of(some, mark, self._clock(), client.max_payload)
            async with self._places:
                found = await Appending(client, topic, partition, messages).run()
            told |= zip(places, found, strict=True)
            end = max(item.offset for item in found) + 1
            await client.publish(_WAKE, json.dumps([topic, partition, end]).encode())
        for place, before in twice.items():
            told[place] = Appended(partition, told[before].offset, duplicate=True)
        return [told[place] for place in range(len(records))]

    def append_in(self, session: Session, topic: str, records: Sequence[NewRecord]) -> None:
        """Append by the outbox, whose rows share the fate of the caller's transaction."""
        self._outbox.put(session, topic, records)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """The records from an offset on; see the seam."""
        self._placing.place([NewRecord(b"", partition=partition)], self._shape(topic).partitions)
        return self._link.run(lambda client: _read(client, topic, partition, offset, limit))

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset that is kept and the one that comes next."""
        partitions = range(self._shape(topic).partitions)

        async def ask_all(client: Client) -> dict[int, tuple[int, int]]:
            told = await asyncio.gather(*(info(client, topic, number) for number in partitions))
            return {number: bounds_of(one) for number, one in zip(partitions, told, strict=True)}

        return self._link.run(ask_all)

    def wait(
        self,
        topic: str,
        positions: Mapping[int, int],
        timeout: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Until there is something to read, or nothing may ever come, or the time is over."""
        self._watch.wait(topic, positions, time.monotonic() + timeout, stopped)

    def _ends(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for topic in topics:
            try:
                found[topic] = {number: end for number, (_, end) in self.bounds(topic).items()}
            except NotFound:
                continue
        return found

    def trim(self) -> int:
        """Nothing: NATS lets go by itself."""
        return 0

    def ping(self) -> None:
        """Raises Unavailable unless JetStream answers, which takes a leader of the cluster."""

        async def look(client: Client) -> None:
            await ask(client, "INFO", patience=Patience(client, 0.0))

        self._link.run(look)

    def close(self) -> None:
        """Hang up, and relay no more."""
        self._outbox.stop()
        self._link.close()


def _chunks(places: Sequence[int], records: Sequence[NewRecord]) -> Iterator[list[int]]:
    """The places in their order, so many together as may be published as one."""
    some: list[int] = []
    size = 0
    for place in places:
        size += records[place].size
        if some and (len(some) == MOST_TOGETHER or size > MOST_BYTES_TOGETHER):
            yield some
            some, size = [], records[place].size
        some.append(place)
    if some:
        yield some


async def _read(
    client: Client, topic: str, partition: int, offset: int, limit: int
) -> list[Record]:
    body = {
        "seq": offset + 1,
        "batch": min(limit, _MOST_READ),
        "max_bytes": MOST_BYTES_READ,
    }
    patience = Patience(client, _LATE_SECONDS)
    while True:
        found, _ = await stored(client, topic, partition, body)
        if found:
            return _contiguous(partition, offset, found)
        # A replica may lag behind: the leader knows whether there is nothing.
        first, end = bounds_of(await info(client, topic, partition))
        if offset < first:
            raise OffsetGone(first)
        if offset >= end:
            return []
        await patience.or_give_up("a replica lags behind")


def _contiguous(partition: int, offset: int, found: Sequence[Msg]) -> list[Record]:
    records = [record_of(partition, message.headers or {}, message.data) for message in found]
    if records[0].offset != offset:
        raise OffsetGone(records[0].offset)
    for place, record in enumerate(records):
        if record.offset != offset + place:
            return records[:place]
    return records
