"""The members of consumer groups: they fetch what is theirs, and commit what they dealt with."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update

from app.kernel.auth import Call
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict
from app.kernel.http.pagination import Listing, Page
from app.kernel.log.seam import OffsetGone, Record
from app.kernel.signing import KeyRing
from app.kernel.sql import utc_now
from app.streams.consumer_groups.service import refuse_strange
from app.streams.groups import Membership, find_member, membership_of
from app.streams.lookup import find_group
from app.streams.service import Topics
from app.streams.tables import Group, Member

MEMBERS = Listing(
    "GroupMembers",
    {"client": Member.client, "created_at": Member.created_at, "lease_until": Member.lease_until},
    order=("created_at",),
    identity=Member.id,
    default_order="created_at",
)
MOST_MEMBERS = 256


@dataclass(frozen=True)
class Fetched:
    """Records for a member, and the offsets to commit once they are dealt with."""

    membership: Membership
    items: Sequence[Record]

    @property
    def offsets(self) -> dict[int, int]:
        """The offset after the last record of each partition that there are records of."""
        return {record.partition: record.offset + 1 for record in self.items}


class GroupMembers:
    """What the members of groups can do."""

    def __init__(self, topics: Topics, ring: KeyRing) -> None:
        self._database = topics.database
        self._groups = topics.groups
        self._log = topics.log
        self._ring = ring
        self._changes = Changes(topics.database, "streams")

    def page(self, call: Call, name: str, arguments: Mapping[str, Any]) -> Page[Member]:
        """The members of a group, those whose lease is just over among them; raises NotFound."""
        with self._database.read() as session:
            group = find_group(session, call, name)
            query = select(Member).where(Member.group_id == group.id)
            return MEMBERS.page(session, query, arguments, self._ring, f"{call.project}/{name}")

    def get(self, call: Call, name: str, member_id: str) -> Membership:
        """A member with what it reads; raises NotFound."""
        with self._database.read() as session:
            group = find_group(session, call, name)
            return membership_of(session, group, find_member(session, group, member_id))

    def join(self, call: Call, name: str, client: str) -> Membership:
        """A new member; raises NotFound, Conflict where there are too many."""
        with self._changes.begin(call) as change:
            group = find_group(change.session, call, name, lock=True)
            query = select(func.count()).where(Member.group_id == group.id)
            if (change.session.scalar(query) or 0) >= MOST_MEMBERS:
                raise Conflict(f"A group has {MOST_MEMBERS} members at most")
            membership = self._groups.join_in(change.session, group.id, client)
            change.answer(membership)
        return membership

    def renew(self, call: Call, name: str, member_id: str) -> Membership:
        """Renew a lease; raises NotFound for a member that was dropped."""
        with self._changes.begin(call) as change:
            group = self._guarded(change, name, member_id)
            return self._groups.renew_in(change.session, group.id, member_id)

    def leave(self, call: Call, name: str, member_id: str) -> None:
        """End a membership; raises NotFound."""
        with self._changes.begin(call) as change:
            group = self._guarded(change, name, member_id)
            self._groups.leave_in(change.session, group.id, member_id)

    def fetch(self, call: Call, name: str, member_id: str, *, limit: int, wait: float) -> Fetched:
        """Records from a member's committed offsets on; renews its lease, also while it waits.

        Raises NotFound, OffsetGone.
        """
        until = time.monotonic() + call.patience(wait)
        while True:
            membership = self.renew(call, name, member_id)
            items = self._read(membership, limit)
            left = until - time.monotonic()
            if items or left <= 0:
                return Fetched(membership, items)
            patience = min(left, self._groups.lease.total_seconds() / 3)
            self._log.wait(membership.topic_id, membership.offsets, patience)

    def commit(
        self,
        call: Call,
        name: str,
        member_id: str,
        epoch: int,
        offsets: Mapping[int, int],
        notes: Mapping[int, str],
    ) -> None:
        """Keep a member's offsets and renew its lease; raises NotFound, Invalid, StaleEpoch."""
        with self._database.read() as session:
            topic_id = find_group(session, call, name).topic_id
        refuse_strange(offsets, self._log.bounds(topic_id))
        with self._changes.begin(call) as change:
            guarded = call.if_match is not None
            group = find_group(change.session, call, name, lock=guarded)
            change.guard(group)
            self._groups.commit(change.session, group.id, member_id, epoch, offsets, notes)
            change.session.execute(
                update(Member)
                .where(Member.id == member_id)
                .values(lease_until=utc_now() + self._groups.lease, updated_at=Member.updated_at)
                .execution_options(synchronize_session=False)
            )

    def _guarded(self, change: Change, name: str, member_id: str) -> Group:
        group = find_group(change.session, change.call, name, lock=True)
        change.guard(find_member(change.session, group, member_id))
        return group

    def _read(self, membership: Membership, limit: int) -> list[Record]:
        bounds = self._log.bounds(membership.topic_id) if membership.held else {}
        ready = {p: o for p, o in membership.offsets.items() if bounds[p][1] > o}
        items: list[Record] = []
        for place, (partition, offset) in enumerate(ready.items()):
            share = -(-(limit - len(items)) // (len(ready) - place))
            try:
                items += self._log.read(membership.topic_id, partition, offset, share)
            except OffsetGone as gone:
                gone.extra["partition"] = partition
                raise
        return items
