"""Who reads which partition of a topic, and how far: members with leases, offsets with epochs.

One implementation for all who read in groups. A partition has one member at most. Each time that
one changes hands, the group's epoch counts up, and the partition keeps the epoch at which it was
handed out: what a member commits is refused when it knows only an older one. So a member that was
believed dead and comes back can't undo what its successor has done.

A member whose lease is over is dropped by the next one that calls. A partition that is to go from
one living member to another goes when the first one renews its lease: it has come to a stop then,
and nobody reads beside it. ``commit`` belongs into the transaction of what was done with the
records: then each record takes effect once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.kernel.errors import Conflict, NotFound
from app.kernel.sql import Database, lease_holds, new_id, utc_now
from app.streams.assignment import balanced
from app.streams.tables import Assignment, Group, Member, Topic


class StaleEpoch(Conflict):
    """The partition has changed hands since that epoch."""

    code, title = "stale-epoch", "The partition has changed hands"


@dataclass(frozen=True)
class Held:
    """A partition that a member reads, since an epoch, and the offset that it is to read next."""

    partition: int
    epoch: int
    offset: int


@dataclass(frozen=True)
class Membership:
    """A member as it is after a call: it reads ``held`` and commits with ``epoch``."""

    row: Member
    topic_id: str
    epoch: int
    held: tuple[Held, ...]

    @property
    def id(self) -> str:
        """The member's."""
        return self.row.id

    @property
    def offsets(self) -> dict[int, int]:
        """The offset to read next of each of its partitions."""
        return {held.partition: held.offset for held in self.held}

    @property
    def etag(self) -> str:
        """Changes with each renewal."""
        return self.row.etag

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return self.row.subject


class Groups:
    """The groups of a database. ``lease`` is how long a member that is silent is believed alive."""

    def __init__(
        self, database: Database, lease: timedelta, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self.lease = lease
        self._clock = clock

    def make(
        self,
        session: Session,
        topic: Topic,
        name: str,
        offsets: Mapping[int, int],
        *,
        owner: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Group:
        """A group without members that is to read a topic from these offsets on.

        ``offsets`` has all partitions; ask the log for its bounds before the transaction. The name
        of a group with an owner can't be a client's when it has a slash.
        """
        group = Group(
            project=topic.project,
            name=name,
            topic_id=topic.id,
            topic=topic.name,
            owner=owner,
            description=description,
            tags=dict(tags or {}),
        )
        session.add(group)
        session.flush()
        session.add_all(
            Assignment(group_id=group.id, partition=partition, offset=offsets[partition])
            for partition in range(topic.partitions)
        )
        session.flush()
        return group

    def remove(self, session: Session, group_id: str) -> None:
        """Take a group away with its members and offsets."""
        for table in (Assignment, Member):
            session.execute(delete(table).where(table.group_id == group_id))
        session.execute(delete(Group).where(Group.id == group_id))

    def join(self, group_id: str, client: str = "") -> Membership:
        """A new member, with the partitions that are free for it; raises NotFound."""
        with self._database.write() as session:
            return self.join_in(session, group_id, client)

    def join_in(self, session: Session, group_id: str, client: str) -> Membership:
        """``join`` in the caller's transaction."""
        group = _locked(session, group_id)
        now = self._clock()
        member = Member(
            id=new_id(),
            project=group.project,
            group_id=group.id,
            group=group.name,
            client=client,
            lease_until=now + self.lease,
        )
        session.add(member)
        session.flush()
        self._hand_out(session, group, now, None)
        return membership_of(session, group, member)

    def renew(self, group_id: str, member_id: str) -> Membership:
        """Renew a lease, and take part in handing out: the answer says what to read from now on.

        Raises NotFound for a member that has left, or was dropped: it must join anew.
        """
        with self._database.write() as session:
            return self.renew_in(session, group_id, member_id)

    def renew_in(self, session: Session, group_id: str, member_id: str) -> Membership:
        """``renew`` in the caller's transaction."""
        group = _locked(session, group_id)
        member = find_member(session, group, member_id)
        now = self._clock()
        member.lease_until = now + self.lease
        session.flush()
        self._hand_out(session, group, now, member_id)
        return membership_of(session, group, member)

    def leave(self, group_id: str, member_id: str) -> None:
        """End a membership; its partitions go to the others. Raises NotFound."""
        with self._database.write() as session:
            self.leave_in(session, group_id, member_id)

    def leave_in(self, session: Session, group_id: str, member_id: str) -> None:
        """``leave`` in the caller's transaction."""
        group = _locked(session, group_id)
        session.delete(find_member(session, group, member_id))
        session.flush()
        self._hand_out(session, group, self._clock(), None)

    def commit(
        self,
        session: Session,
        group_id: str,
        member_id: str,
        epoch: int,
        offsets: Mapping[int, int],
        notes: Mapping[int, str] | None = None,
    ) -> None:
        """Keep the offsets to be read next, in the caller's transaction.

        Raises StaleEpoch, and the transaction must not be committed, where a partition is not the
        member's or has been handed out since ``epoch``.
        """
        now, notes = self._clock(), notes or {}
        for partition, offset in sorted(offsets.items()):
            known = session.execute(
                update(Assignment)
                .where(
                    Assignment.group_id == group_id,
                    Assignment.partition == partition,
                    Assignment.member_id == member_id,
                    Assignment.epoch <= epoch,
                )
                .values(offset=offset, note=notes.get(partition, ""), committed_at=now)
                .returning(Assignment.partition)
                .execution_options(synchronize_session=False)
            )
            if known.first() is None:
                raise StaleEpoch(
                    f"Partition {partition} is not this member's by epoch {epoch}",
                    extra={"partition": partition},
                )

    def seek(self, session: Session, group_id: str, offsets: Mapping[int, int]) -> Group:
        """Set the offsets to be read next, whoever reads: what members still commit is refused.

        They learn where to go on when they renew.
        """
        group = _locked(session, group_id)
        group.epoch += 1
        for row in assignments(session, group_id, lock=True):
            if row.partition in offsets:
                row.offset, row.epoch = offsets[row.partition], group.epoch
                row.note, row.committed_at = "", self._clock()
        session.flush()
        return group

    def is_read(self, session: Session, group_id: str) -> bool:
        """Whether it has a living member."""
        query = select(Member.lease_until).where(Member.group_id == group_id)
        now = self._clock()
        return any(lease_holds(until, self.lease, now) for until in session.scalars(query))

    def _hand_out(
        self, session: Session, group: Group, now: datetime, renewing: str | None
    ) -> None:
        """Drop the dead and spread the partitions; those of ``renewing`` may be taken from it."""
        members = list(session.scalars(select(Member).where(Member.group_id == group.id)))
        alive = {one.id for one in members if lease_holds(one.lease_until, self.lease, now)}
        for member in members:
            if member.id not in alive:
                session.delete(member)
        rows = assignments(session, group.id, lock=True)
        holders = {r.partition: r.member_id if r.member_id in alive else None for r in rows}
        wanted = balanced(holders, alive)
        changed = [
            row
            for row in rows
            if wanted[row.partition] != row.member_id and holders[row.partition] in (None, renewing)
        ]
        if changed:
            group.epoch += 1
        for row in changed:
            row.member_id, row.epoch = wanted[row.partition], group.epoch
        session.flush()


def positions(session: Session, group_id: str) -> dict[int, int]:
    """The offset to be read next of each partition."""
    return {row.partition: row.offset for row in assignments(session, group_id)}


def assignments(session: Session, group_id: str, *, lock: bool = False) -> list[Assignment]:
    """The partitions of a group, in order."""
    query = select(Assignment).where(Assignment.group_id == group_id)
    query = query.order_by(Assignment.partition).execution_options(populate_existing=True)
    return list(session.scalars(query.with_for_update() if lock else query))


def lag(offsets: Mapping[int, int], bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """How many records are still to be read of each partition; what is gone doesn't count."""
    return {p: end - max(first, min(offsets[p], end)) for p, (first, end) in bounds.items()}


def slowest(session: Session, topic_id: str) -> dict[int, int]:
    """The offset of each partition that the slowest reader is to read next; none without readers.

    Lambda views keep their place elsewhere, and don't count.
    """
    query = (
        select(Assignment.partition, func.min(Assignment.offset))
        .join(Group, Group.id == Assignment.group_id)
        .where(
            Group.topic_id == topic_id,
            Group.owner.is_(None) | Group.owner.startswith("processors/"),
        )
        .group_by(Assignment.partition)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def find_member(session: Session, group: Group, member_id: str) -> Member:
    """A member of a group; raises NotFound."""
    query = select(Member).where(Member.group_id == group.id, Member.id == member_id)
    member = session.scalar(query)
    if member is None:
        raise NotFound("The group has no such member: its lease is over, or it has left")
    return member


def _locked(session: Session, group_id: str) -> Group:
    group = session.scalar(select(Group).where(Group.id == group_id).with_for_update())
    if group is None:
        raise NotFound("There is no such group")
    return group


def membership_of(session: Session, group: Group, member: Member) -> Membership:
    """A member with what it reads."""
    held = tuple(
        Held(row.partition, row.epoch, row.offset)
        for row in assignments(session, group.id)
        if row.member_id == member.id
    )
    return Membership(member, group.topic_id, group.epoch, held)
