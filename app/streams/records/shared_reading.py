"""Reading on behalf of all who follow a topic: what one of them has just read serves the others.

Followers are mostly at the same place, so each would ask the log the same and encode the same
records. The first to come to a place reads and encodes; for the others it is remembered, as long as
somebody follows the topic and it is among the last that were read.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from app.kernel.log.seam import RecordLog
from app.streams.records.encoding import told_json, told_record

_FRESH_SECONDS: Final = 0.02
_PAGES: Final = 64
_MOST_BYTES: Final = 8_000_000
_AT_ONCE: Final = 200

Told = Sequence[tuple[int, bytes]]
"""Records as JSON, each with the offset that comes after it."""


@dataclass
class _Topic:
    lock: threading.Lock = field(default_factory=threading.Lock)
    followers: int = 0
    bounds: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    looked: float = float("-inf")
    pages: OrderedDict[tuple[int, int], Told] = field(default_factory=OrderedDict)
    bytes: int = 0


class SharedReading:
    """The followers of a process; thread-safe."""

    def __init__(self, log: RecordLog) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}

    @contextmanager
    def following(self, topic: str) -> Iterator[None]:
        """Remember what is read of a topic for the length of the block."""
        with self._lock:
            self._topics.setdefault(topic, _Topic()).followers += 1
        try:
            yield
        finally:
            with self._lock:
                self._topics[topic].followers -= 1
                if not self._topics[topic].followers:
                    del self._topics[topic]

    def ends(self, topic: str) -> dict[int, int]:
        """The offset that comes next in each partition, as it was a moment ago.

        Raises what the log raises.
        """
        known = self._topics[topic]
        with known.lock:
            if time.monotonic() - known.looked > _FRESH_SECONDS:
                known.bounds, known.looked = self.log.bounds(topic), time.monotonic()
            return {partition: end for partition, (_, end) in known.bounds.items()}

    def records(self, topic: str, partition: int, offset: int) -> Told:
        """Some records from an offset on; raises what the log raises."""
        known, place = self._topics[topic], (partition, offset)
        with known.lock:
            if place in known.pages:
                return known.pages[place]
            found = self.log.read(topic, partition, offset, _AT_ONCE)
            told = [(record.offset + 1, told_json(told_record(record))) for record in found]
            if told:
                _remember(known, place, told)
            return told


def _remember(known: _Topic, place: tuple[int, int], told: Told) -> None:
    known.pages[place] = told
    known.bytes += _size(told)
    while len(known.pages) > _PAGES or known.bytes > _MOST_BYTES:
        _, oldest = known.pages.popitem(last=False)
        known.bytes -= _size(oldest)


def _size(told: Told) -> int:
    return sum(len(text) for _, text in told)
