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
from app.kernel.log.seam import OffsetGone, Record, RecordLog
from app.streams.encoding import told_json, told_record

LONGEST_SECONDS: Final = 55.0
HEARTBEAT_SECONDS: Final = 3.0
_AT_ONCE: Final = 200
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

    def __init__(self, log: RecordLog, topic_id: str, positions: Mapping[int, int]) -> None:
        self._log = log
        self._topic_id = topic_id
        self._positions = dict(positions)
        self._reading = 0

    def follow(self, seconds: float, heartbeat: float = HEARTBEAT_SECONDS) -> Iterator[bytes]:
        """Events until the time is over, or the topic is gone.

        A comment comes when nothing else does: a client that has left is found out by writing.
        """
        until = time.monotonic() + min(seconds, LONGEST_SECONDS)
        yield b"retry: 1000\n\n"
        while (left := until - time.monotonic()) > 0:
            try:
                told = b"".join(self._next())
                if not told:
                    self._log.wait(self._topic_id, self._positions, min(heartbeat, left))
                    told = b"".join(self._next())
            except OffsetGone as gone:
                told = told_json({"partition": self._reading, "first": gone.first})
                yield b"event: gone\ndata: " + told + b"\n\n"
                return
            except NotFound:
                yield b"event: deleted\ndata: {}\n\n"
                return
            except Unavailable:
                time.sleep(min(_PAUSE_SECONDS, left))
                told = b""
            yield told or b": nothing new\n\n"

    def _next(self) -> Iterator[bytes]:
        bounds = self._log.bounds(self._topic_id)
        for partition, offset in sorted(self._positions.items()):
            if bounds[partition][1] > offset:
                self._reading = partition
                for record in self._log.read(self._topic_id, partition, offset, _AT_ONCE):
                    self._positions[partition] = record.offset + 1
                    yield self._event(record)

    def _event(self, record: Record) -> bytes:
        position = told_positions(self._positions).encode()
        return b"id: " + position + b"\ndata: " + told_json(told_record(record)) + b"\n\n"
