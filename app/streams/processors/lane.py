"""One partition of one processor: read, handle, and keep all that follows in one transaction.

That transaction has the outputs, the dead letters, what was folded, the counts and the offset that
comes next. It is refused by the group's epoch when the partition has changed hands meanwhile: so
each record takes effect once, whatever dies in between.

A record that fails is tried again, each time a little later, and goes to the dead letters after the
last try. Trouble that is no record's fault is waited for without end. What raises something that
nobody foresaw is handed over record by record, until the one is found that does it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from sqlalchemy.orm import Session

from app.kernel import faults
from app.kernel.errors import NotFound, ServiceError
from app.kernel.log.seam import NewRecord, OffsetGone, Record, RecordLog
from app.kernel.log.traced import beneath, processing
from app.kernel.sql import Database, utc_now
from app.kernel.tracing import tracer
from app.streams.groups import Groups, StaleEpoch
from app.streams.processors.dead_letters import dead_letter
from app.streams.processors.handling import Failure, Handler, Kind, Outcome, Share
from app.streams.processors.progress import (
    Advance,
    note_advance,
    note_failure,
    note_trouble,
    told_failure,
    tries_at,
)
from app.streams.processors.reading import AT_ONCE, LOST, UNTIL_NEWS, Lease, Rest
from app.streams.processors.values import Refused

_SLICE_SECONDS: Final = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_NOTED_SECONDS: Final = 5.0
log = structlog.get_logger("processors")


@dataclass(frozen=True)
class Tools:
    """What lanes work with."""

    database: Database
    log: RecordLog
    groups: Groups
    clock: Callable[[], datetime] = utc_now


@dataclass(frozen=True)
class Duty:
    """What a lane is to do, and where its records come from and go to."""

    kind: Kind
    share: Share
    topic_id: str
    output_id: str | None
    dead_letter_id: str | None
    tries: int
    most: int


class Lane:
    """A reader that handles the records of a partition."""

    def __init__(self, duty: Duty, lease: Lease, tools: Tools) -> None:
        self.offset = lease.held.offset
        self._duty = duty
        self._lease = lease
        self._tools = tools
        self._handler: Handler | None = None
        self._singly_below = 0
        self._troubles = 0
        self._noted = -_NOTED_SECONDS

    def step(self) -> Rest:
        """Handle records for half a second, or until there are none; raises nothing."""
        until = time.monotonic() + _SLICE_SECONDS
        rest = AT_ONCE
        while rest is AT_ONCE and time.monotonic() < until and not self._lease.stopping():
            rest = self._guarded()
        return rest

    def close(self) -> None:
        """Let go of what the handler holds."""
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.close()

    def _guarded(self) -> Rest:
        records: Sequence[Record] = ()
        try:
            records = self._read()
            return self._advance(records) if records else UNTIL_NEWS
        except OffsetGone as error:
            return self._safely(partial(self._skip, error.first))
        except Exception as error:  # The door of the kinds: it counts as the record's failure.
            self.close()
            if isinstance(error, ServiceError):
                if error.retryable or isinstance(error, NotFound | StaleEpoch) or not records:
                    return self._after_trouble(error)
            else:
                log.exception("handler_failed", processor=self._duty.share.name, at=self.offset)
            return self._safely(partial(self._blame, records, error))

    def _safely(self, act: Callable[[], Rest]) -> Rest:
        """Do what only the database can keep from being done."""
        try:
            return act()
        except ServiceError as error:
            return self._after_trouble(error)

    def _after_trouble(self, error: ServiceError) -> Rest:
        if isinstance(error, StaleEpoch):
            return LOST
        return self._trouble(error.code, error.detail)

    def _read(self) -> Sequence[Record]:
        singly = self.offset < self._singly_below
        most = 1 if singly else self._duty.most
        return self._tools.log.read(
            self._duty.topic_id, self._duty.share.partition, self.offset, most
        )

    def _advance(self, records: Sequence[Record]) -> Rest:
        if self._handler is None:
            self._handler = self._duty.kind.open(self._duty.share)
        share = self._duty.share
        told = {"modelyard.processor": share.name, "modelyard.project": share.project}
        with processing(share.topic, records, told) as span:
            outcome = self._handler.handle(records)
            if outcome.failure is not None:
                span.fail(outcome.failure.code)
            return self._settle(records, outcome, self._handler.keep)

    def _settle(
        self, records: Sequence[Record], outcome: Outcome, fold: Callable[[Session], None]
    ) -> Rest:
        """Keep what became of the records, if anything did."""
        faults.hit("processors.handled")
        if outcome.patience is not None and not outcome.taken:
            return Rest(outcome.patience.seconds, outcome.patience.records)
        if not outcome.taken and outcome.failure is None:
            return AT_ONCE
        return self._keep(records, outcome, fold)

    def _keep(
        self, records: Sequence[Record], outcome: Outcome, fold: Callable[[Session], None]
    ) -> Rest:
        """Keep what became of the records; the time until the next step."""
        failure, tries = outcome.failure, 0
        dead = list(outcome.refused)
        taken = outcome.taken
        share, tools = self._duty.share, self._tools
        now = tools.clock()
        with tools.database.write() as session:
            if failure is not None:
                at = failure.record.offset
                tries = 1 + tries_at(session, share.processor, share.partition, at)
                if tries >= self._duty.tries:
                    dead.append((failure.record, Refused(failure.code, failure.detail)))
                    taken += 1
            offset = records[taken - 1].offset + 1 if taken else self.offset
            self._commit(session, offset)
            self._write(session, outcome.outputs, dead, tries)
            fold(session)
            advance = self._counted(outcome, taken, len(dead))
            row = note_advance(session, share.processor, share.partition, advance, now)
            if failure is not None:
                note_failure(row, failure, tries, now)
            elif dead:
                record, why = dead[-1]
                row.last_failure = told_failure(record.offset, why.code, why.detail, now)
            faults.hit("processors.written")
        faults.hit("processors.committed")
        self.offset, self._troubles = offset, 0
        gave_up = tries >= self._duty.tries
        return AT_ONCE if failure is None or gave_up else Rest(_pause(tries))

    def _counted(self, outcome: Outcome, taken: int, refused: int) -> Advance:
        kept = self._duty.dead_letter_id is not None
        return Advance(
            taken=taken,
            written=len(outcome.outputs),
            dead=refused if kept else 0,
            dropped=0 if kept else refused,
            late=outcome.late,
        )

    def _commit(self, session: Session, offset: int) -> None:
        lease = self._lease
        self._tools.groups.commit(
            session,
            lease.group_id,
            lease.member_id,
            lease.held.epoch,
            {lease.held.partition: offset},
        )

    def _write(
        self,
        session: Session,
        outputs: Sequence[NewRecord],
        dead: Sequence[tuple[Record, Refused]],
        tries: int,
    ) -> None:
        """Append outputs and dead letters, in one order of topics for all who do so."""
        duty = self._duty
        letters = [dead_letter(duty.share, record, why, tries or 1) for record, why in dead]
        by_topic: dict[str, list[NewRecord]] = {}
        for topic, records in ((duty.output_id, outputs), (duty.dead_letter_id, letters)):
            if topic is not None and records:
                by_topic.setdefault(topic, []).extend(records)
        for topic in sorted(by_topic):
            made = beneath(by_topic[topic], tracer.carried())
            self._tools.log.append_in(session, topic, made)

    def _skip(self, first: int) -> Rest:
        """Go on at the first record that retention has left; the gap is counted."""
        share, now = self._duty.share, self._tools.clock()
        gone = Advance(gone=first - self.offset)
        with self._tools.database.write() as session:
            self._commit(session, first)
            row = note_advance(session, share.processor, share.partition, gone, now)
            detail = f"Retention has dropped the records before {first}"
            row.last_failure = told_failure(self.offset, "offset_gone", detail, now)
        self.offset = first
        return AT_ONCE

    def _blame(self, records: Sequence[Record], error: Exception) -> Rest:
        """Look for the record that fails; when it is alone, it has."""
        if len(records) != 1:
            self._singly_below = records[-1].offset + 1 if records else 0
            return AT_ONCE if records else self._trouble("internal", type(error).__name__)
        code = error.code if isinstance(error, ServiceError) else "handler_failed"
        detail = error.detail if isinstance(error, ServiceError) else type(error).__name__
        outcome = Outcome(failure=Failure(records[0], code, detail))
        self._singly_below = max(self._singly_below, records[0].offset + 1)
        return self._keep(records, outcome, lambda _session: None)

    def _trouble(self, code: str, detail: str) -> Rest:
        """Wait for the end of trouble that is no record's fault, and tell of it now and then."""
        self._troubles += 1
        share = self._duty.share
        log.warning("processor_waits", processor=share.name, partition=share.partition, why=detail)
        if time.monotonic() - self._noted > _NOTED_SECONDS:
            self._noted = time.monotonic()
            self._note(code, detail)
        return Rest(_pause(self._troubles))

    def _note(self, code: str, detail: str) -> None:
        share, now = self._duty.share, self._tools.clock()
        try:
            with self._tools.database.write() as session:
                self._commit(session, self.offset)
                place = (share.processor, share.partition, self.offset)
                note_trouble(session, *place, (code, detail), now)
        except ServiceError as error:
            log.warning("trouble_not_noted", processor=share.name, why=error.detail)


def _pause(tries: int) -> float:
    return float(min(_FIRST_PAUSE * 2 ** min(tries - 1, 20), _LONGEST_PAUSE))
