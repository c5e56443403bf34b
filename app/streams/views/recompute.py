"""The job ``view_batch``: fold a topic up to now, keep the rows, swap the batch in.

In order: cut (the offsets after the last records of now), fold ``[origin, cut)``, store the rows;
then build the speed states from the cut on, beside those that answers are merged with, until they
have come as far as these; then swap (``swap``). Answers merge the old batch with its speed states
until that one transaction, so no record vanishes or counts twice meanwhile.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from app.kernel import faults
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.errors import Conflict, Unavailable
from app.kernel.jobs.claims import Later
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.seam import OffsetGone, Record, RecordLog
from app.kernel.long_work.handler import Attempt, WorkFailed, WorkHandler
from app.kernel.long_work.lifecycle import Lifecycle, Superseded
from app.kernel.sandbox.parent import Sandbox
from app.kernel.sql import Database
from app.streams.views.aggregation import Aggregation, Groups
from app.streams.views.batches import base_of, made
from app.streams.views.contents import FOLDER, BatchRows, lines_of
from app.streams.views.model_batches import FIRST_LOOK_SECONDS, ModelBatches
from app.streams.views.speed import ModelFold, Place, SpeedLayer
from app.streams.views.swap import NO_LEARNERS, Candidate, Swaps
from app.streams.views.tables import MODEL, LambdaView, Offsets, ViewBatch

MOST_SIZE: Final = 2_000_000
_AT_ONCE: Final = 5000
_LEAST_BETWEEN_LOOKS: Final = 20_000


@dataclass(frozen=True)
class _Cut:
    """What a batch is to fold: a part of each partition, onto an earlier batch or nothing."""

    start: Offsets
    end: Offsets
    base: int | None

    @property
    def records(self) -> int:
        return sum(self.end[place] - self.start[place] for place in self.end)


class ViewWorker:
    """Makes batches of views."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        record_log: RecordLog,
        *,
        clock: Clock = SYSTEM_CLOCK,
        most_size: int = MOST_SIZE,
        models: ModelBatches | None = None,
        model_fold: ModelFold | None = None,
    ) -> None:
        """``models`` and ``model_fold`` make the batches of model views, which fail without."""
        self._database = database
        self._store = store
        self._log = record_log
        self._most_size = most_size
        self._models = models
        self._speed = SpeedLayer(database, record_log, clock, model_fold)
        self._swaps = Swaps(database, store, clock)

    def handler(self, sandbox: Sandbox, folder: Path) -> WorkHandler[ViewBatch]:
        """The handler of the jobs."""
        lifecycle = Lifecycle(
            self._database, ViewBatch, service="streams", noun="view_batch", made=made
        )
        return WorkHandler(lifecycle, sandbox, folder, self.perform, error_code="fold_error")

    def perform(self, attempt: Attempt[ViewBatch]) -> None:
        """Make a batch and swap it in."""
        batch = attempt.row
        with self._database.read() as session:
            view = session.get(LambdaView, batch.view_id)
        if view is None:
            raise Superseded(batch.id)
        if view.kind == MODEL:
            self._train(attempt, view)
        else:
            self._recompute(attempt, view)
        attempt.succeed({}, {"view": view.name, "version": batch.number})
        attempt.insist(partial(self._swaps.tidy, view.id))

    def _train(self, attempt: Attempt[ViewBatch], view: LambdaView) -> None:
        batch = attempt.row
        if self._models is None:
            raise Unavailable("This worker makes no batches of model views")
        if batch.training is None or batch.offsets is None:
            cut = self._cut(view)
            if cut.base is not None:
                detail = "A model learns from all records, and some are no longer kept"
                raise WorkFailed("history_gone", detail)
            self._models.begin(attempt, view, cut.end, self._read)
            raise Later(FIRST_LOOK_SECONDS, "the training run has just been asked for")
        training = self._models.finished(attempt)
        attempt.keep(training=training)
        candidate = Candidate(
            *(view.id, batch.id, batch.attempt, batch.number, batch.offsets),
            contents=training["seeds"],
        )
        results = {"digest": training["seeds"]["digest"]}
        learners = attempt.insist(partial(self._models.learners, training))
        self._swap_in(attempt, candidate, results, learners)

    def _recompute(self, attempt: Attempt[ViewBatch], view: LambdaView) -> None:
        batch, cut = attempt.row, self._cut(view)
        groups = self._fold(attempt, view, cut)
        attempt.on_progress({"fraction": 0.8, "step": "storing", "message": ""})
        key = f"{batch.project}/{FOLDER}/{batch.id}-{batch.attempt}.rows"
        stored = self._store.put(key, lines_of(groups, cut.end))
        faults.hit("views.batch_stored")
        candidate = Candidate(
            view.id, batch.id, batch.attempt, batch.number, cut.end, {**vars(stored)}
        )
        results = {
            "offsets": cut.end,
            "base": cut.base,
            "records": groups.records,
            "skipped": groups.skipped,
            "groups": len(groups.tallies),
            "digest": stored.digest,
        }
        self._swap_in(attempt, candidate, results)

    def _cut(self, view: LambdaView) -> _Cut:
        bounds = self._log.bounds(view.topic_id)
        firsts = {str(place): first for place, (first, _) in bounds.items()}
        end = {str(place): end for place, (_, end) in bounds.items()}
        try:
            base = base_of(view, firsts)
        except Conflict as error:
            raise WorkFailed("history_gone", error.detail) from error
        start = view.origin if base is None else view.serving_offsets
        # Of a log of several nodes, one that lags may answer.
        end = {place: max(end[place], start[place]) for place in start}
        return _Cut(dict(start), end, base)

    def _fold(self, attempt: Attempt[ViewBatch], view: LambdaView, cut: _Cut) -> Groups:
        aggregation = Aggregation.of(view.definition)
        groups = Groups()
        if cut.base is not None and view.serving_contents is not None:
            contents = view.serving_contents
            content = self._store.open(contents["key"], contents["digest"], size=contents["bytes"])
            groups = loaded(aggregation, BatchRows.parse(content))
        done, looked = 0, 0
        for place, start in cut.start.items():
            offset = start
            while offset < cut.end[place]:
                limit = min(_AT_ONCE, cut.end[place] - offset)
                records = self._read(view.topic_id, int(place), offset, limit)
                aggregation.fold((record.value for record in records), groups)
                offset += len(records)
                done += len(records)
                if done - looked >= max(_LEAST_BETWEEN_LOOKS, len(groups.tallies)):
                    looked = done
                    self._refuse_large(groups)
                fraction = 0.8 * done / cut.records
                attempt.on_progress({"fraction": fraction, "step": "folding", "message": ""})
                attempt.check()
        self._refuse_large(groups)
        return groups

    def _read(self, topic_id: str, partition: int, offset: int, limit: int) -> list[Record]:
        try:
            records = self._log.read(topic_id, partition, offset, limit)
        except OffsetGone as error:
            raise WorkFailed("history_gone", error.detail) from error
        if not records:
            raise Unavailable("The log doesn't show records that it has told of")
        return records

    def _refuse_large(self, groups: Groups) -> None:
        if groups.size > self._most_size:
            detail = f"The {len(groups.tallies)} groups take more room than a batch may have"
            raise WorkFailed("too_large", detail)

    def _swap_in(
        self,
        attempt: Attempt[ViewBatch],
        candidate: Candidate,
        results: Mapping[str, Any],
        learners: Mapping[int, bytes] = NO_LEARNERS,
    ) -> None:
        attempt.on_progress({"fraction": 0.9, "step": "catching_up", "message": ""})
        attempt.insist(partial(self._swaps.begin, candidate, learners))
        while True:
            # As far as those in place have come by now: the topic's end may run ahead for ever.
            wanted = self._speed.offsets(candidate.view_id)
            for partition, offset in self._speed.offsets(
                candidate.view_id, candidate.number
            ).items():
                place = Place(candidate.view_id, candidate.number, partition)
                missing = wanted.get(partition, 0) - offset
                # A learner can't move on while it is swapped in: it goes ahead as far as it can.
                self._catch_up(attempt, place, sys.maxsize if learners else missing)
            faults.hit("views.caught_up")
            swap = partial(self._swaps.swap, candidate, results, self._speed.follow)
            if attempt.insist(swap):
                faults.hit("views.swapped")
                return

    def _catch_up(self, attempt: Attempt[ViewBatch], place: Place, missing: int) -> None:
        while missing > 0:
            attempt.check()
            moved = self._speed.step(place)
            if moved.gap:
                raise WorkFailed("history_gone", "Records after the batch are no longer kept")
            missing -= moved.records or missing


def loaded(aggregation: Aggregation, rows: BatchRows) -> Groups:
    """The groups of a batch, to be continued."""
    tallies = {key: aggregation.load(text) for key, text in rows.rows.items()}
    return Groups(tallies, rows.records, rows.skipped)
