"""How much work may wait, of one project and of all together; past it a refusal that says when.

A project over its own bound is told so by 429, and the others notice nothing. Past the bound of all
it is the server that has too few workers: 503. Either says how long the queue takes, at the pace
at which the jobs of that kind ended of late, until there is a place.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.kernel.errors import TooManyRequests, Unavailable
from app.kernel.jobs.queue import DONE, FAILED, QUEUED, SYSTEM_CLOCK, Clock, JobQueue, JobRow
from app.kernel.sql import Database

_OF_LATE: Final = 20
_LATELY: Final = timedelta(hours=1)
_UNKNOWN_PAUSE: Final = 10.0
_LONGEST_PAUSE: Final = 300.0


class BoundedQueue(JobQueue):
    """A queue as those see it who accept work for it."""

    def __init__(
        self, database: Database, *, of_project: int, in_all: int, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        super().__init__(database, clock)
        self._of_project = of_project
        self._in_all = in_all

    def admit(self, session: Session, kind: str, project: str) -> None:
        """Raise TooManyRequests or Unavailable when no more jobs of a kind may wait.

        Several that are admitted at the same moment don't see one another: a few more than the
        bound may get in.
        """
        ours = func.count(case((JobRow.project == project, 1)))
        counts = select(ours, func.count()).where(JobRow.kind == kind, JobRow.state == QUEUED)
        of_project, in_all = session.execute(counts).one()
        if of_project >= self._of_project:
            raise TooManyRequests(
                f"{of_project} of this project wait already",
                retry_after=self._pause(session, kind, of_project - self._of_project + 1),
                extra={"limit": self._of_project},
            )
        if in_all >= self._in_all:
            raise Unavailable(
                f"{in_all} wait already, of all projects together",
                retry_after=self._pause(session, kind, in_all - self._in_all + 1),
                extra={"limit": self._in_all},
            )

    def _pause(self, session: Session, kind: str, places: int) -> float:
        """Seconds until so many jobs have left the queue, if it goes on as lately."""
        now = self.clock.now()
        ended = session.scalars(
            select(JobRow.finished_at)
            .where(
                JobRow.finished_at > now - _LATELY,
                JobRow.kind == kind,
                JobRow.state.in_((DONE, FAILED)),
            )
            .order_by(JobRow.finished_at.desc())
            .limit(_OF_LATE)
        ).all()
        if not ended or ended[-1] is None:
            return _UNKNOWN_PAUSE
        pace = (now - ended[-1]).total_seconds() / len(ended)
        return min(max(pace * places, 1.0), _LONGEST_PAUSE)
