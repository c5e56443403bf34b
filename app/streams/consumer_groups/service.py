"""Consumer groups: clients that share the reading of a topic, over the groups of all readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import Conflict, FieldError, Invalid, NotFound, StillReferred
from app.kernel.http.pagination import Listing, Page
from app.kernel.signing import KeyRing
from app.streams.groups import assignments, lag
from app.streams.lookup import find_group, find_topic
from app.streams.service import Topics
from app.streams.tables import Group

GROUPS = Listing(
    "ConsumerGroups",
    {
        "name": Group.name,
        "topic": Group.topic,
        "created_at": Group.created_at,
        "updated_at": Group.updated_at,
    },
    order=("created_at", "updated_at", "name"),
    identity=Group.id,
)
EARLIEST, LATEST = "earliest", "latest"


@dataclass(frozen=True)
class PartitionLag:
    """How far a group has come in a partition, and who reads it."""

    partition: int
    offset: int
    first: int
    end: int
    lag: int
    member: str | None
    note: str
    committed_at: datetime | None


@dataclass(frozen=True)
class GroupLag:
    """How far a group has come in its topic."""

    epoch: int
    lag: int
    items: Sequence[PartitionLag]


class ConsumerGroups:
    """What clients can do with groups."""

    def __init__(self, topics: Topics, ring: KeyRing) -> None:
        self._database = topics.database
        self._groups = topics.groups
        self._log = topics.log
        self._topics = topics
        self._ring = ring
        self._changes = Changes(topics.database, "streams")

    def page(self, call: Call, arguments: Mapping[str, Any]) -> Page[Group]:
        """The groups of clients in the caller's project."""
        query = select(Group).where(Group.project == call.project, Group.owner.is_(None))
        with self._database.read() as session:
            return GROUPS.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, name: str) -> Group:
        """A group; raises NotFound."""
        with self._database.read() as session:
            return find_group(session, call, name)

    def create(self, call: Call, name: str, topic: str, start: str, **fields: Any) -> Group:
        """A group without members, at the start or the end of a topic; Invalid, Conflict."""
        place = 0 if start == EARLIEST else 1
        try:
            bounds = self._topics.get(call, topic).bounds
            offsets = {partition: both[place] for partition, both in bounds.items()}
            with self._changes.begin(call) as change:
                row = find_topic(change.session, call, topic, lock=True)
                group = self._groups.make(change.session, row, name, offsets, **fields)
                told = {"group": name, "topic": topic, "start": start}
                change.record("consumer-group.created", group.subject, told)
                change.answer(group)
        except NotFound as error:
            raise Invalid.at("/topic", "unknown_topic", f"There is no topic {topic}") from error
        except IntegrityError as error:
            raise Conflict(f"There is a consumer group {name} already") from error
        return group

    def remove(self, call: Call, name: str) -> None:
        """Remove a group; raises NotFound, StillReferred while it has living members."""
        with self._changes.begin(call) as change:
            group = find_group(change.session, call, name, lock=True)
            change.guard(group)
            if self._groups.is_read(change.session, group.id):
                told = {"subject": group.subject, "state": "active", "reason": "It has members"}
                referrers = [{"service": "streams", **told}]
                raise StillReferred("Members still read", extra={"referrers": referrers})
            self._groups.remove(change.session, group.id)
            change.record("consumer-group.deleted", group.subject, {"group": name})

    def lag(self, call: Call, name: str) -> GroupLag:
        """How far a group has come; raises NotFound."""
        with self._database.read() as session:
            group = find_group(session, call, name)
            rows = assignments(session, group.id)
        bounds = self._log.bounds(group.topic_id)
        behind = lag({row.partition: row.offset for row in rows}, bounds)
        items = [
            PartitionLag(
                row.partition,
                row.offset,
                *bounds[row.partition],
                behind[row.partition],
                row.member_id,
                row.note,
                row.committed_at,
            )
            for row in rows
        ]
        return GroupLag(group.epoch, sum(behind.values()), items)

    def seek(self, call: Call, name: str, offsets: Mapping[int, int] | str) -> GroupLag:
        """Set offsets, or go to the start or the end; what members still commit is refused."""
        bounds = self._log.bounds(self.get(call, name).topic_id)
        if isinstance(offsets, str):
            place = 0 if offsets == EARLIEST else 1
            offsets = {partition: both[place] for partition, both in bounds.items()}
        refuse_strange(offsets, bounds)
        with self._changes.begin(call) as change:
            group = find_group(change.session, call, name, lock=True)
            change.guard(group)
            self._groups.seek(change.session, group.id, offsets)
            told = {"group": name, "offsets": {str(p): o for p, o in offsets.items()}}
            change.record("consumer-group.sought", group.subject, told)
        return self.lag(call, name)


def refuse_strange(offsets: Mapping[int, int], bounds: Mapping[int, tuple[int, int]]) -> None:
    """Raise Invalid for partitions that there are not and offsets still to come."""
    faults = []
    for place, (partition, offset) in enumerate(offsets.items()):
        at = f"/offsets/{place}"
        if partition not in bounds:
            told = f"The topic has the partitions 0 to {len(bounds) - 1}"
            faults.append(FieldError(f"{at}/partition", "no_such_partition", told))
        elif offset > bounds[partition][1]:
            told = f"The next record will have the offset {bounds[partition][1]}"
            faults.append(FieldError(f"{at}/offset", "out_of_range", told))
    if faults:
        raise Invalid("The offsets are not those of the topic", errors=faults)
