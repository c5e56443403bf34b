"""Versions that are made of the records of a topic, each once however often it is sent.

Where such a version begins is a unique key: whose archive it is, the partition, the first offset.
Sent again, what begins within a version that is there already is answered by that version, which
tells how far it goes. So who archives, and dies before it has noted that, goes on after it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.datasets.conversion import Conversions
from app.datasets.ports import Beat
from app.datasets.tables import Version
from app.datasets.uploads import Upload
from app.kernel.auth import Call
from app.kernel.changes import Change, Result
from app.kernel.errors import Conflict, Invalid
from app.kernel.sql import Database


@dataclass(frozen=True)
class Origin:
    """Records of one partition, from ``first`` up to, not including, ``next``.

    ``source`` is whose archive they go to: the records of one source never overlap.
    """

    source: str
    topic: str
    processor: str
    partition: int
    first: int
    next: int

    def as_lineage(self) -> dict[str, Any]:
        """As the version tells it."""
        offsets = {"partition": self.partition, "first": self.first, "next": self.next}
        return {"topic": self.topic, "processor": self.processor, "offsets": [offsets]}


class _Archived(Exception):
    """Somebody else was faster."""

    def __init__(self, version: Version) -> None:
        super().__init__(version.subject)
        self.version = version


class Archives:
    """Makes versions of records."""

    def __init__(self, database: Database, conversions: Conversions) -> None:
        self._database = database
        self._conversions = conversions

    def add(self, call: Call, dataset: str, origin: Origin, upload: Upload, beat: Beat) -> Result:
        """The version of these records: a new one, or the one that begins with them already.

        Raises what ``Conversions.add`` does, and Conflict where later ones of them are archived.
        """
        if origin.next <= origin.first:
            raise Invalid.at("?next", "out_of_range", "It comes after `first`")
        with self._database.read() as session:
            found = _archived(session, call, origin)
        if found is not None:
            return Result(found)
        try:
            return self._conversions.add(call, dataset, upload, beat, also=partial(_name, origin))
        except _Archived as error:
            return Result(error.version)
        except IntegrityError as error:
            raise Conflict("These records are being archived", retry_after=1) from error


def _name(origin: Origin, change: Change, version: Version) -> None:
    """Give a new version of a locked dataset its origin."""
    found = _archived(change.session, change.call, origin)
    if found is not None:
        raise _Archived(found)
    version.origin = origin.as_lineage()
    version.origin_source, version.origin_partition = origin.source, origin.partition
    version.origin_first, version.origin_next = origin.first, origin.next


def _archived(session: Session, call: Call, origin: Origin) -> Version | None:
    """The version that has the first of the records; raises Conflict where one has later ones."""
    query = select(Version).where(
        Version.project == call.project,
        Version.origin_source == origin.source,
        Version.origin_partition == origin.partition,
        Version.origin_first < origin.next,
        Version.origin_next > origin.first,
    )
    found = session.scalar(query.order_by(Version.origin_first).limit(1))
    if found is not None and (found.origin_first or 0) > origin.first:
        raise Conflict(f"{found.subject} has later ones of these records")
    return found
