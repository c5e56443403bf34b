"""What a processor process does for views: folds what has come, and has batches made when due."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import select

from app.kernel.errors import ServiceError
from app.kernel.sql import Database, utc_now
from app.streams.processors.reading import AT_ONCE, Lease, Reader, Rest, Work
from app.streams.views.batches import ViewBatches
from app.streams.views.speed import AT_ONCE as SOME
from app.streams.views.speed import SpeedLayer
from app.streams.views.tables import LambdaView

_STEP_SECONDS: Final = 1.0
_TEND_SECONDS: Final = 1.0
_BETWEEN_SECONDS: Final = 0.2
_OUTAGE_SECONDS: Final = 1.0
_GAP_SECONDS: Final = 10.0
log = structlog.get_logger("views")


class ViewReader:
    """Folds the records of one partition. Who reads it is decided by the lease, what has been
    counted by the speed state: a reader that was believed dead does no harm."""

    def __init__(self, view_id: str, lease: Lease, speed: SpeedLayer, batches: ViewBatches) -> None:
        self.offset = lease.held.offset
        self._view_id = view_id
        self._lease = lease
        self._speed = speed
        self._batches = batches
        self._tended = 0.0

    def step(self) -> Rest:
        """Fold what there is, for about a second; once a second look whether a batch is due."""
        try:
            tends = self._lease.held.partition == 0
            if tends and time.monotonic() - self._tended >= _TEND_SECONDS:
                self._tended = time.monotonic()
                self._batches.tend(self._view_id, utc_now())
            return self._fold(Rest(_TEND_SECONDS if tends else float("inf"), records=1))
        except ServiceError as error:
            log.warning("view_waits", view=self._view_id, why=error.detail)
            return Rest(_OUTAGE_SECONDS)

    def _fold(self, until_news: Rest) -> Rest:
        until = time.monotonic() + _STEP_SECONDS
        while time.monotonic() < until and not self._lease.stopping():
            moved = self._speed.advance(self._view_id, self._lease.held.partition)
            self.offset = moved.offset
            if moved.gap:
                log.warning("view_has_a_gap", view=self._view_id, offset=moved.offset)
                return Rest(_GAP_SECONDS)
            if not moved.records:
                return until_news
            if moved.records < SOME:
                # A step costs by its groups: a few records more cost next to nothing.
                return Rest(_BETWEEN_SECONDS, records=SOME)
        return AT_ONCE

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class ViewWork:
    """The readers of one view's topic."""

    view: LambdaView
    speed: SpeedLayer
    batches: ViewBatches

    @property
    def group_id(self) -> str:
        """Its group's id."""
        return self.view.group_id

    @property
    def topic_id(self) -> str:
        """What the record log calls its topic."""
        return self.view.topic_id

    @property
    def revision(self) -> str:
        """What is to be done never changes."""
        return self.view.id

    def open(self, lease: Lease) -> Reader:
        """A reader of one partition."""
        return ViewReader(self.view.id, lease, self.speed, self.batches)


class FollowedViews:
    """The source of all views."""

    def __init__(self, database: Database, speed: SpeedLayer, batches: ViewBatches) -> None:
        self._database = database
        self._speed = speed
        self._batches = batches

    def __call__(self) -> Sequence[Work]:
        """What is to be read right now."""
        query = select(LambdaView).order_by(LambdaView.id)
        with self._database.read() as session:
            return [ViewWork(view, self._speed, self._batches) for view in session.scalars(query)]
