"""The loop that keeps all views up to date: folds what has come, and has batches made when due."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import select

from app.kernel.errors import ServiceError
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.seam import RecordLog
from app.kernel.sql import Database
from app.streams.views.batches import ViewBatches
from app.streams.views.speed import Place, SpeedLayer
from app.streams.views.tables import LambdaView, SpeedState

_TEND_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 0.1
_OUTAGE_SECONDS: Final = 1.0
log = structlog.get_logger("views")


@dataclass(frozen=True)
class _Reached:
    """A speed state in place, and the offset that it has come to."""

    topic_id: str
    place: Place
    offset: int


class ViewLoop:
    """Works for the views of one database. Several processes may: each record counts once."""

    def __init__(
        self,
        database: Database,
        record_log: RecordLog,
        batches: ViewBatches,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._database = database
        self._log = record_log
        self._batches = batches
        self._clock = clock
        self._speed = SpeedLayer(database, record_log, clock)
        self._tended = 0.0

    def run(self, stopped: threading.Event) -> None:
        """Until it is stopped."""
        while not stopped.is_set():
            try:
                moved = self.turn()
            except ServiceError as error:
                log.warning("views_wait", why=error.detail)
                stopped.wait(_OUTAGE_SECONDS)
                continue
            if not moved:
                stopped.wait(_IDLE_SECONDS)

    def turn(self) -> int:
        """A step in each partition where something has come; how many records were folded in."""
        if time.monotonic() - self._tended >= _TEND_SECONDS:
            self._tended = time.monotonic()
            self._batches.tend(self._clock.now())
        reached = self._reached()
        ends = {topic: self._ends(topic) for topic in {one.topic_id for one in reached}}
        late = [
            one for one in reached if ends[one.topic_id].get(one.place.partition, 0) > one.offset
        ]
        return sum(self._speed.step(one.place).records for one in late)

    def _reached(self) -> Sequence[_Reached]:
        query = select(LambdaView.topic_id, SpeedState).where(
            LambdaView.id == SpeedState.view_id, LambdaView.serving_number == SpeedState.number
        )
        with self._database.read() as session:
            return [
                _Reached(
                    topic_id, Place(state.view_id, state.number, state.partition), state.offset
                )
                for topic_id, state in session.execute(query)
            ]

    def _ends(self, topic_id: str) -> dict[int, int]:
        return {place: end for place, (_, end) in self._log.bounds(topic_id).items()}
