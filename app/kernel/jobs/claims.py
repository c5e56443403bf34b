"""What workers do with the jobs of one database: claim, renew, end, hand back.

Each is one compare-and-set: it changes the row only if the worker still holds the job under the
same attempt, and says whether it did.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from app.kernel.errors import ServiceError
from app.kernel.jobs.headcount import Load
from app.kernel.jobs.leases import Beat, LeaseWatch
from app.kernel.jobs.queue import DONE, LONGEST_DELAY, QUEUED, RUNNING, JobQueue, JobRow
from app.kernel.last_look import LastLook
from app.kernel.sql import UtcDateTime, new_id

# Literals, so that the partial indexes are used on both databases.
_QUEUED: ColumnElement[str] = literal_column(f"'{QUEUED}'")
_RUNNING: ColumnElement[str] = literal_column(f"'{RUNNING}'")
_MOST_COUNTED = 256
_GLANCE_SECONDS = 0.05
_Moment = datetime | BindParameter[datetime]


class Interrupted(Exception):
    """The handler stopped because its worker ends or has lost the job."""


class Later(Exception):
    """The handler has stepped aside, while the job waits for something else: to be called again
    after so many seconds. The attempt doesn't count."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds


class Fenced(Exception):
    """Another worker has taken the job over: nothing may be written on its behalf."""


class LostWorker(Exception):
    """The workers of all attempts died or hung."""

    code = "lost_worker"


@dataclass(frozen=True)
class _Seen:
    """What a look at the queue found: jobs that could start, by kind; signs of life of those that
    run; and whether any are queued, those that must still wait among them."""

    waiting: dict[str, int]
    beats: list[Beat]
    any_queued: bool


@dataclass(frozen=True)
class Ready:
    """What a database has for a worker: how many jobs of each kind could start (as far as was
    counted), and jobs of workers that have died."""

    waiting: dict[str, int]
    lapsed: list[Beat]

    @property
    def kinds(self) -> list[str]:
        """The kinds with a job that can start."""
        return [kind for kind, count in self.waiting.items() if count]


class Job:
    """A claimed job, as its handler sees it."""

    def __init__(self, claims: "Claims", row: JobRow, held_until: float) -> None:
        self.id = row.id
        self.kind = row.kind
        self.ref = row.ref
        self.project = row.project
        self.attempt = row.attempt
        self.trace = row.trace
        self.queue = claims.name
        self.tries_left = row.max_attempts - (row.attempt - row.excused)
        self.exhausted = self.tries_left < 0
        self.completed = False
        self._claims = claims
        self._held_until = held_until
        self._lost = threading.Event()

    def still_mine(self) -> bool:
        """Whether this worker holds the job; asks the database only when the lease ran out here.

        While the database can't be asked it does: nobody else can be known to, and whatever is
        written on behalf of the job is fenced by its attempt.
        """
        if self._lost.is_set():
            return False
        if self._claims.monotonic() < self._held_until:
            return True
        try:
            return self._claims.renew([self]) == [self]
        except ServiceError:
            return True

    def should_stop(self) -> bool:
        """Whether the handler ought to end now: the worker drains, or has lost the job."""
        return self._claims.draining or not self.still_mine()

    def check(self) -> None:
        """Raises Interrupted when the handler ought to end now."""
        if self.should_stop():
            raise Interrupted(f"job {self.id} was interrupted")

    def complete(self, session: Session) -> None:
        """End the job in the handler's own transaction, together with what it achieved.

        Raises Fenced when the job isn't this worker's any more: the transaction must roll back.
        """
        if not self._claims.set_ended(session, self, DONE, None):
            raise Fenced(f"job {self.id}, attempt {self.attempt}")
        self.completed = True

    def lose(self) -> None:
        """From now on this job is somebody else's."""
        self._lost.set()

    def hold_until(self, moment: float) -> None:
        """The lease is known to last until a moment of the monotonic clock."""
        self._held_until = moment


class Claims:
    """One worker's hold on the jobs of one database."""

    def __init__(self, name: str, queue: JobQueue, kinds: Collection[str], lease: float) -> None:
        self.name = name
        self.worker_id = new_id()
        self.draining = False
        self.closed = False
        self.load = Load(0, 0)
        self._queue = queue
        self._kinds = sorted(kinds)
        # Put together once: this takes longer than the questions do.
        self._questions = (_counts_of(self._kinds), _signs_of_life(self._kinds))
        self._lease = lease
        self.monotonic = queue.clock.monotonic
        self._watch = LeaseWatch(lease, self.monotonic)
        # While any are queued the time may come for one that must wait, without a commit.
        self._seen = LastLook(queue.database, self._look, lambda seen: not seen.any_queued)
        self._held: dict[str, Job] = {}
        self._lock = threading.Lock()

    def held(self) -> list[Job]:
        """The jobs whose handlers run in this process."""
        with self._lock:
            return list(self._held.values())

    def release(self, job: Job) -> None:
        """The handler has ended: the job is renewed no more."""
        with self._lock:
            self._held.pop(job.id, None)

    def ready(self) -> Ready:
        """What could be claimed, without taking a lock. Lapsed leases show only to one who asks
        all the time."""
        seen = self._seen.look()
        held = {job.id for job in self.held()}
        self.load = Load(sum(seen.waiting.values()), len(held))
        lapsed = [beat for beat in self._watch.look(seen.beats) if beat.job_id not in held]
        return Ready(seen.waiting, lapsed)

    def _look(self) -> _Seen:
        counts, signs_of_life = self._questions
        now = self._queue.clock.now()
        with self._queue.database.read() as session:
            found = session.execute(counts, {"now": now, "late": now + LONGEST_DELAY}).one()
            beats = [Beat(*row) for row in session.execute(signs_of_life)]
        *waiting, any_queued = found
        return _Seen(dict(zip(self._kinds, waiting, strict=True)), beats, bool(any_queued))

    def pause(self, poll: float) -> float:
        """How long to wait before the next look, where one that asks the database waits ``poll``
        seconds: less where it showed that nobody has committed."""
        return min(poll, _GLANCE_SECONDS) if self._seen.holds else poll

    def claim(self, kind: str) -> Job | None:
        """The first queued job of a kind, by priority, then by age."""
        now = self._queue.clock.now()
        first = (
            select(JobRow.id)
            .where(_can_start(kind, now, now + LONGEST_DELAY))
            .order_by(JobRow.priority, JobRow.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        return self._take(JobRow.id == first.scalar_subquery())

    def take_over(self, beat: Beat) -> Job | None:
        """A job that showed no sign of life, unless it has shown one since.

        When all its attempts are used up, it is only to be buried: ``Job.exhausted``.
        """
        return self._take(
            and_(
                JobRow.id == beat.job_id,
                JobRow.state == _RUNNING,
                JobRow.attempt == beat.attempt,
                JobRow.beats == beat.beats,
            )
        )

    def _take(self, which: ColumnElement[bool]) -> Job | None:
        asked = self.monotonic()
        with self._queue.database.write() as session:
            row = session.scalars(
                update(JobRow)
                .where(which)
                .values(state=RUNNING, attempt=JobRow.attempt + 1, worker_id=self.worker_id)
                .returning(JobRow)
                .execution_options(synchronize_session=False)
            ).first()
        if row is None:
            return None
        job = Job(self, row, asked + self._lease)
        with self._lock:
            self._held[job.id] = job
        return job

    def renew(self, jobs: Sequence[Job]) -> list[Job]:
        """Prolong the leases of jobs; those that are still held. The others are told."""
        asked = self.monotonic()
        with self._queue.database.write() as session:
            kept = [
                job for job in jobs if _change(session, self.worker_id, job, beats=JobRow.beats + 1)
            ]
        for job in jobs:
            if job in kept:
                job.hold_until(asked + self._lease)
            else:
                job.lose()
        return kept

    def set_ended(self, session: Session, job: Job, state: str, error: str | None) -> bool:
        """End the job in a transaction; False when it isn't held any more."""
        ended = self._queue.clock.now()
        return _change(session, self.worker_id, job, state=state, finished_at=ended, error=error)

    def end(self, job: Job, state: str, error: str | None = None) -> bool:
        """End the job; False when it isn't held any more."""
        with self._queue.database.write() as session:
            return self.set_ended(session, job, state, error)

    def hand_back(self, job: Job, *, delay: float, excused: bool, error: str | None = None) -> bool:
        """Queue the job again; ``excused``: this attempt doesn't count."""
        later = self._queue.clock.now() + timedelta(seconds=delay) if delay else None
        with self._queue.database.write() as session:
            return _change(
                *(session, self.worker_id, job),
                state=QUEUED,
                not_before=later,
                worker_id=None,
                excused=JobRow.excused + int(excused),
                error=error,
            )


def _change(session: Session, holder: str, job: Job, **values: Any) -> bool:
    """Change the row of a job, if the worker still holds it under the same attempt."""
    changed = session.scalars(
        update(JobRow)
        .where(
            JobRow.id == job.id,
            JobRow.state == RUNNING,
            JobRow.worker_id == holder,
            JobRow.attempt == job.attempt,
        )
        .values(values)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return changed.first() is not None


def _count_of(which: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many there are, counted no further than matters: this is asked all the time."""
    some = select(JobRow.id).where(which).limit(_MOST_COUNTED).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


def _counts_of(kinds: Sequence[str]) -> Select[*tuple[Any, ...]]:
    """How many jobs of each kind could start at a time ``now``, and whether any are queued."""
    moment = (bindparam("now", type_=UtcDateTime), bindparam("late", type_=UtcDateTime))
    counts = [_count_of(_can_start(kind, *moment)) for kind in kinds]
    queued = select(JobRow.id).where(JobRow.state == _QUEUED, JobRow.kind.in_(kinds))
    return select(*counts, queued.exists())


def _signs_of_life(kinds: Sequence[str]) -> Select[str, int, int]:
    return select(JobRow.id, JobRow.attempt, JobRow.beats).where(
        JobRow.state == _RUNNING, JobRow.kind.in_(kinds)
    )


def _can_start(kind: str, now: _Moment, late: _Moment) -> ColumnElement[bool]:
    # One that waits for longer than any may was put off before the clock was set back.
    due = or_(JobRow.not_before.is_(None), JobRow.not_before <= now, JobRow.not_before > late)
    return and_(JobRow.state == _QUEUED, JobRow.kind == kind, due)
