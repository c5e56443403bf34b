"""Records as messages of NATS, and back.

A message's subject ends in what its record is known by: the digest of its id, or a mark of the
append that it came with. NATS refuses a second message of such a subject, for as long as it keeps
the first.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from app.kernel.errors import TooLarge
from app.kernel.log.seam import NewRecord, Record
from app.kernel.log.tables import microseconds, moment_of

RECORD_HEADER = "Modelyard-Record"
_OWN_HEADERS = 512
_MARK = "by-"


@dataclass(frozen=True)
class Message:
    """A record on its way; ``mark`` is the last part of its subject."""

    mark: str
    is_first_of_mark: bool
    told: str
    payload: bytes

    @property
    def size(self) -> int:
        """Its bytes on the way, and some more."""
        return len(self.told) + len(self.payload) + _OWN_HEADERS


def stream_of(topic: str, partition: int) -> str:
    """The name of the stream that holds a partition."""
    return f"modelyard-{_token(topic)}-{partition}"


def subject_of(topic: str, partition: int, mark: str) -> str:
    """The subject of a message; ``*`` for the mark means all of a partition."""
    return f"modelyard.{_token(topic)}.{partition}.{mark}"


def _token(topic: str) -> str:
    """A name as NATS takes it in a subject."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f"={ord(found[0]):x}=", topic)


def messages_of(records: Sequence[NewRecord], mark: str, now: datetime, most: int) -> list[Message]:
    """The messages of records; raises TooLarge for one that is larger than ``most`` bytes."""
    found: list[Message] = []
    marked = False
    for record in records:
        own = _MARK + mark if record.id is None else _digest(record.id)
        first = record.id is not None or not marked
        marked = marked or record.id is None
        message = Message(own, first, _told(record, now), record.value)
        if message.size > most:
            raise TooLarge(f"A record may have {most - _OWN_HEADERS} bytes with all that it tells")
        found.append(message)
    return found


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(blake2b(text.encode(), digest_size=16).digest())[:22].decode()


def _told(record: NewRecord, now: datetime) -> str:
    """All of a record but its value, in ASCII."""
    moment = now if record.timestamp is None else record.timestamp
    told: dict[str, object] = {"t": microseconds(moment)}
    if record.key is not None:
        told["k"] = base64.b64encode(record.key).decode()
    if record.id is not None:
        told["i"] = record.id
    if record.headers:
        told["h"] = dict(record.headers)
    return json.dumps(told, separators=(",", ":"))


def record_of(partition: int, headers: Mapping[str, str], payload: bytes) -> Record:
    """The record that a message of a stream holds."""
    told = json.loads(headers[RECORD_HEADER])
    key = told.get("k")
    return Record(
        partition=partition,
        offset=int(headers["Nats-Sequence"]) - 1,
        timestamp=moment_of(told["t"]),
        key=None if key is None else base64.b64decode(key),
        value=payload,
        headers=told.get("h", {}),
        id=told.get("i"),
    )
