"""The tail of a topic as server-sent events: what comes, with the position to resume from.

The ``id`` of each event is the offset to go on from in every partition: ``0:42,1:17``. A stream
ends after a while, and a client resumes it by sending the last id: so a key that is revoked, or a
client that has gone without a word, holds no place for long.
"""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Final

from app.kernel.errors import Invalid, NotFound, Unavailable
from app.kernel.log.seam import OffsetGone
from app.streams.records.encoding import told_json
from app.streams.records.shared_reading import SharedReading

LONGEST_SECONDS: Final = 55.0
HEARTBEAT_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = 0.5
_POSITIONS: Final = re.compile(r"[0-9]{1,3}:[0-9]{1,18}(,[0-9]{1,3}:[0-9]{1,18})*")


def parsed_positions(text: str, partitions: int) -> dict[int, int]:
    """The offsets of a ``Last-Event-ID``; raises Invalid for what is none of this topic."""
    if not _POSITIONS.fullmatch(text):
        raise Invalid.at("Last-Event-ID", "invalid_position", "The id of an event of this stream")
    told = {int(p): int(offset) for p, offset in (part.split(":") for part in text.split(","))}
    if max(told) >= partitions:
        raise Invalid.at("Last-Event-ID", "invalid_position", "The topic has fewer partitions")
    return told


def told_positions(positions: Mapping[int, int]) -> str:
    """Offsets as the id of an event."""
    return ",".join(f"{p}:{offset}" for p, offset in sorted(positions.items()))


class Tail:
    """What comes to a topic from some offsets on."""

    def __init__(self, reading: SharedReading, topic_id: str, positions: Mapping[int, int]) -> None:
        self._reading = reading
        self._topic_id = topic_id
        self._positions = dict(positions)
        self._partition = 0

    def follow(self, seconds: float, heartbeat: float = HEARTBEAT_SECONDS) -> Iterator[bytes]:
        """Events until the time is over, or the topic is gone.

        A comment comes when nothing else does: a client that has left is found out by writing.
        """
        until = time.monotonic() + min(seconds, LONGEST_SECONDS)
        yield b"retry: 1000\n\n"
        with self._reading.following(self._topic_id):
            while (left := until - time.monotonic()) > 0:
                try:
                    yield self._news(min(heartbeat, left)) or b": nothing new\n\n"
                except OffsetGone as gone:
                    told = told_json({"partition": self._partition, "first": gone.first})
                    yield b"event: gone\ndata: " + told + b"\n\n"
                    return
                except NotFound:
                    yield b"event: deleted\ndata: {}\n\n"
                    return
                except Unavailable:
                    time.sleep(min(_PAUSE_SECONDS, left))
                    yield b": no news can be read right now\n\n"

    def _news(self, patience: float) -> bytes:
        """What is new, now or within so many seconds."""
        told = b"".join(self._next())
        if not told:
            self._reading.log.wait(self._topic_id, self._positions, patience)
            told = b"".join(self._next())
        return told

    def _next(self) -> Iterator[bytes]:
        ends = self._reading.ends(self._topic_id)
        for partition, offset in sorted(self._positions.items()):
            if ends[partition] > offset:
                self._partition = partition
                found = self._reading.records(self._topic_id, partition, offset)
                for self._positions[partition], told in found:
                    position = told_positions(self._positions).encode()
                    yield b"id: " + position + b"\ndata: " + told + b"\n\n"
