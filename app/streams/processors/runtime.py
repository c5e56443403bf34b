"""What a processor process does: takes part in groups, and lets their partitions be read.

One thread looks: for what is to be read, for the leases of its memberships, for partitions that
have news. The steps themselves run in a pool. While nothing happens the looks become rare, so that
a quiet installation costs next to nothing.

A process that is told to stop hands its partitions back at once. One that is killed holds them
until its lease is over, or until it is started again under the same name.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import select

from app.kernel.errors import NotFound, ServiceError
from app.kernel.log.seam import RecordLog
from app.kernel.sql import Database
from app.streams.groups import Groups, Membership
from app.streams.processors.reading import AT_ONCE, Lease, Reader, Rest, Source, Work
from app.streams.tables import Member

_LOOK_SECONDS: Final = 1.0
_SHORTEST, _LONGEST, _LONGER = 0.05, 1.0, 1.2
_GRACE_SECONDS: Final = 3.0
_RENEWALS: Final = 3
log = structlog.get_logger("processors")


@dataclass(eq=False)
class _Seat:
    """A partition that this process reads, and when it wants to be read next."""

    work: Work
    lease: Lease
    reader: Reader
    rest: Rest = AT_ONCE
    since: float = 0.0
    busy: bool = False
    left: bool = False

    def is_due(self, now: float) -> bool:
        """Whether its rest is over."""
        return not self.busy and now >= self.since + self.rest.seconds


@dataclass
class _Member:
    """A membership in a group, and the partitions it has brought."""

    work: Work
    id: str
    seats: dict[int, _Seat] = field(default_factory=dict)


class Runtime:
    """Reads what the sources name, until it is stopped. ``client`` names this process."""

    def __init__(
        self,
        database: Database,
        record_log: RecordLog,
        groups: Groups,
        sources: Sequence[Source],
        *,
        client: str,
        threads: int,
    ) -> None:
        self._database = database
        self._log = record_log
        self._groups = groups
        self._sources = sources
        self._client = client
        self._members: dict[str, _Member] = {}
        self._pool = ThreadPoolExecutor(threads, "reading")
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._next_look = self._next_renewal = self._next_poll = 0.0
        self._pause = _SHORTEST

    def run(self) -> None:
        """Read until ``stop``; then hand everything back."""
        self._guarded(self._bury_predecessors)
        while not self._stopped.is_set():
            self.turn()
            self._wake.wait(self._patience())
            self._wake.clear()
        self._wind_up()

    def stop(self) -> None:
        """End ``run``."""
        self._stopped.set()
        self._wake.set()

    def turn(self) -> None:
        """Do what is due: look, renew, hand out steps."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._guarded(self._look)
        if now >= self._next_renewal:
            self._next_renewal = now + self._groups.lease.total_seconds() / _RENEWALS
            self._guarded(self._renew)
        self._guarded(self._hand_out_steps)

    @property
    def partitions(self) -> int:
        """How many partitions it reads."""
        return sum(len(member.seats) for member in self._members.values())

    def _guarded(self, act: Callable[[], None]) -> None:
        """The door of the loop: an outage must not end it."""
        try:
            act()
        except ServiceError as error:
            log.warning("processors_wait", doing=act.__name__, why=error.detail)

    def _patience(self) -> float:
        now = time.monotonic()
        seats = [seat for member in self._members.values() for seat in member.seats.values()]
        moments = [self._next_look]
        if seats:
            moments += [self._next_renewal, self._next_poll]
            moments += [seat.since + seat.rest.seconds for seat in seats if not seat.busy]
        return max(0.001, min(moments) - now)

    def _look(self) -> None:
        """Join what is new, leave what is no more or has changed."""
        wanted = {work.group_id: work for source in self._sources for work in source()}
        for group_id, member in list(self._members.items()):
            work = wanted.get(group_id)
            if work is None or work.revision != member.work.revision:
                self._leave([group_id])
        for group_id, work in wanted.items():
            if group_id not in self._members:
                self._join(work)

    def _join(self, work: Work) -> None:
        try:
            membership = self._groups.join(work.group_id, self._client)
        except NotFound:
            # Deleted since it was listed.
            return
        self._members[work.group_id] = _Member(work, membership.id)
        self._seat(work.group_id, membership)

    def _renew(self) -> None:
        """Renew all leases in one transaction, and take in who reads what from now on."""
        if not self._members:
            return
        told: dict[str, Membership | None] = {}
        with self._database.write() as session:
            for group_id in sorted(self._members):
                try:
                    member_id = self._members[group_id].id
                    told[group_id] = self._groups.renew_in(session, group_id, member_id)
                except NotFound:
                    told[group_id] = None
        for group_id, membership in told.items():
            if membership is None:
                self._forget(group_id)
                self._next_look = 0.0
            else:
                self._seat(group_id, membership)

    def _seat(self, group_id: str, membership: Membership) -> None:
        """Read what the membership has brought, and no longer what it has lost."""
        member = self._members[group_id]
        held = {one.partition: one for one in membership.held}
        for partition, seat in list(member.seats.items()):
            now_held = held.get(partition)
            if now_held is None or now_held.epoch != seat.lease.held.epoch or seat.rest.lost:
                self._unseat(member.seats.pop(partition))
        for partition, one in held.items():
            if partition not in member.seats:
                lease = Lease(group_id, member.id, one, self._stopped.is_set)
                reader = member.work.open(lease)
                member.seats[partition] = _Seat(member.work, lease, reader)

    def _unseat(self, seat: _Seat) -> None:
        seat.left = True
        if not seat.busy:
            seat.reader.close()

    def _forget(self, group_id: str) -> None:
        for seat in self._members.pop(group_id).seats.values():
            self._unseat(seat)

    def _leave(self, group_ids: Sequence[str]) -> None:
        """Give up memberships, in one transaction."""
        members = [(group_id, self._members[group_id].id) for group_id in group_ids]
        for group_id in group_ids:
            self._forget(group_id)
        if members:
            self._end(members)

    def _end(self, members: Sequence[tuple[str, str]]) -> None:
        with self._database.write() as session:
            for group_id, member_id in sorted(members):
                try:
                    self._groups.leave_in(session, group_id, member_id)
                except NotFound:
                    continue

    def _hand_out_steps(self) -> None:
        now = time.monotonic()
        seats = [seat for member in self._members.values() for seat in member.seats.values()]
        if any(seat.rest.lost and not seat.busy for seat in seats):
            # It has changed hands: a renewal tells to whom.
            self._next_poll = now + _SHORTEST
            self._guarded(self._renew)
            return
        due = [seat for seat in seats if seat.is_due(now)]
        if now >= self._next_poll:
            found = self._with_news([one for one in seats if not one.busy and one not in due])
            due += found
            self._pause = _SHORTEST if due else min(self._pause * _LONGER, _LONGEST)
            self._next_poll = time.monotonic() + self._pause
        for seat in due:
            seat.busy = True
            self._pool.submit(self._do, seat)

    def _with_news(self, resting: Sequence[_Seat]) -> list[_Seat]:
        """Those for which enough records wait."""
        waiting = [seat for seat in resting if seat.rest.records]
        found = []
        for topic in sorted({seat.work.topic_id for seat in waiting}):
            try:
                bounds = self._log.bounds(topic)
            except NotFound:
                continue
            found += [
                seat
                for seat in waiting
                if seat.work.topic_id == topic
                and bounds[seat.lease.held.partition][1] - seat.reader.offset >= seat.rest.records
            ]
        return found

    def _do(self, seat: _Seat) -> None:
        """One step, in a thread of the pool."""
        rest = seat.reader.step()
        seat.rest, seat.since = rest, time.monotonic()
        seat.busy = False
        if seat.left:
            seat.reader.close()
        self._wake.set()

    def _wind_up(self) -> None:
        """Give the steps under way a moment, then hand back."""
        until = time.monotonic() + _GRACE_SECONDS
        seats = [seat for member in self._members.values() for seat in member.seats.values()]
        while any(seat.busy for seat in seats) and time.monotonic() < until:
            time.sleep(0.01)
        self._guarded(lambda: self._leave(list(self._members)))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _bury_predecessors(self) -> None:
        """End the memberships that a killed process of the same name has left."""
        with self._database.read() as session:
            query = select(Member.group_id, Member.id).where(Member.client == self._client)
            members = [(row.group_id, row.id) for row in session.execute(query)]
        if members:
            self._end(members)
