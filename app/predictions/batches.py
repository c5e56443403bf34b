"""Batch predictions as clients see them: asked for, listed, watched, cancelled, deleted, read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.auth import Call
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict, FieldError, Invalid, NotFound, ServiceError
from app.kernel.http.pagination import Listing, Page
from app.kernel.http.sendable import Sendable
from app.kernel.jobs.queue import JobQueue
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id
from app.kernel.work.lifecycle import (
    ENDED,
    SUCCEEDED,
    WorkDesk,
    WorkEvent,
    events_of,
    forget_events,
)
from app.predictions.contents import BatchContents
from app.predictions.directory import Directory, Reference
from app.predictions.ports import Datasets, HeldDataset
from app.predictions.tables import BatchPrediction

JOB = "batch_prediction"
_HOLD_SECONDS = 300
_FITS = {"number": {"number", "integer"}}

BATCHES = Listing(
    "BatchPredictions",
    {
        "created_at": BatchPrediction.created_at,
        "state": BatchPrediction.stored_state,
        "model": BatchPrediction.model,
        "version": BatchPrediction.version,
        "dataset": BatchPrediction.dataset,
    },
    order=("created_at",),
    identity=BatchPrediction.id,
)


class BatchPredictions:
    """What a client can do with batch predictions."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        jobs: JobQueue,
        directory: Directory,
        datasets: Datasets,
        store: ArtifactStore,
    ) -> None:
        self._database = database
        self._changes = Changes(database, "predictions")
        self._ring = ring
        self._desk: WorkDesk[BatchPrediction] = WorkDesk(jobs, noun="batch", job=JOB)
        self._directory = directory
        self._datasets = datasets
        self.contents = BatchContents(self._changes, store)

    def create(self, call: Call, wanted: Mapping[str, Any]) -> BatchPrediction:
        """Accept a batch; raises Invalid for what doesn't exist or doesn't fit together."""
        reference = Reference.parse(wanted["model"])
        try:
            location = self._directory.locate(call, reference)
        except NotFound as error:
            raise Invalid.at("/model", "unknown_model", error.detail) from error
        batch = BatchPrediction(
            id=new_id(),
            project=call.project,
            model=reference.model,
            version=location["version"],
            tags=dict(wanted["tags"]),
        )
        with self._held(call, wanted, holder=batch.subject) as held:
            _check_columns(location["signature"]["inputs"], held.columns)
            batch.dataset, batch.dataset_version = held.dataset, held.version
            batch.dataset_storage = dict(held.storage)
            with self._changes.begin(call) as change:
                told = {"model": batch.model, "version": batch.version, "dataset": batch.dataset}
                self._desk.enqueue(change, batch, told)
                change.answer(batch)
        return batch

    @contextmanager
    def _held(self, call: Call, wanted: Mapping[str, Any], *, holder: str) -> Iterator[HeldDataset]:
        """A dataset version that stays for as long as the block takes."""
        dataset, version = wanted["dataset"], wanted["dataset_version"]
        try:
            held = self._datasets.hold(call, dataset, version, holder=holder, seconds=_HOLD_SECONDS)
        except NotFound as error:
            where = "/dataset" if version is None else "/dataset_version"
            raise Invalid.at(where, "unknown_dataset", error.detail) from error
        try:
            yield held
        except ServiceError as error:
            # After a commit of unknown outcome the row may still come: then the hold runs out.
            if error.status < 500:
                self._datasets.release(call, held, holder=holder)
            raise
        self._datasets.release(call, held, holder=holder)

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[BatchPrediction]:
        """The project's batches."""
        query = select(BatchPrediction).where(BatchPrediction.project == call.project)
        with self._database.read() as session:
            return BATCHES.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, batch_id: str) -> BatchPrediction:
        """One batch; raises NotFound."""
        with self._database.read() as session:
            batch = session.scalar(
                select(BatchPrediction).where(
                    BatchPrediction.project == call.project, BatchPrediction.id == batch_id
                )
            )
        if batch is None:
            raise NotFound(f"There is no batch prediction {batch_id}")
        return batch

    def wait(
        self, call: Call, batch_id: str, *, seconds: float, known: Callable[[str], bool] | None
    ) -> BatchPrediction:
        """The batch once it has ended or changed, or after a time; see ``WorkDesk.wait``."""
        return self._desk.wait(lambda: self.get(call, batch_id), seconds=seconds, known=known)

    def update(self, call: Call, batch_id: str, tags: Mapping[str, str]) -> BatchPrediction:
        """Replace the tags."""
        with self._changes.begin(call) as change:
            batch = self._locked(change, batch_id)
            change.guard(batch)
            batch.tags = dict(tags)
            change.record("batch.updated", batch.subject, {"tags": batch.tags})
        return batch

    def cancel(self, call: Call, batch_id: str) -> BatchPrediction:
        """Stop a batch; Conflict once it has ended."""
        with self._changes.begin(call) as change:
            batch = self._locked(change, batch_id)
            change.guard(batch)
            self._desk.cancel(change, batch)
            change.answer(batch)
        return batch

    def delete(self, call: Call, batch_id: str) -> None:
        """Forget an ended batch, then its contents; Conflict while it lives."""
        with self._changes.begin(call) as change:
            batch = self._locked(change, batch_id)
            change.guard(batch)
            if not batch.ended:
                raise Conflict("Cancel the batch prediction before deleting it")
            forget_events(change.session, batch)
            change.record("batch.deleted", batch.subject, {"model": batch.model})
            change.session.delete(batch)
        self.contents.clear(batch)

    def events(self, batch_id: str, after: int) -> Sequence[WorkEvent]:
        """What happened to a batch since an event's number."""
        return events_of(self._database, batch_id, after)

    def content(self, call: Call, batch_id: str, format_: str) -> Sendable:
        """A succeeded batch's result; raises Conflict before that, ArtifactCorrupt."""
        batch = self.get(call, batch_id)
        if batch.stored_state != SUCCEEDED or batch.contents is None:
            raise Conflict(f"The batch prediction is {batch.state}: there is no content")
        return self.contents.download(call, batch, format_)

    def _locked(self, change: Change, batch_id: str) -> BatchPrediction:
        batch = change.session.scalar(
            select(BatchPrediction)
            .where(BatchPrediction.project == change.call.project, BatchPrediction.id == batch_id)
            .with_for_update()
        )
        if batch is None:
            raise NotFound(f"There is no batch prediction {batch_id}")
        return batch

    def references(
        self, call: Call, *, dataset: str | None, version: int | None, model: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """The batches not ended that need a dataset or a model, of one version or of any."""
        query = select(BatchPrediction).where(
            BatchPrediction.project == call.project, BatchPrediction.stored_state.not_in(ENDED)
        )
        if dataset is not None:
            query = query.where(BatchPrediction.dataset == dataset)
            if version is not None:
                query = query.where(BatchPrediction.dataset_version == version)
        if model is not None:
            query = query.where(BatchPrediction.model == model)
            if version is not None:
                query = query.where(BatchPrediction.version == version)
        with self._database.read() as session:
            batches = list(session.scalars(query.limit(100)))
        return [
            {"subject": batch.subject, "state": batch.state, "reason": "the batch has not ended"}
            for batch in batches
        ]


def _check_columns(
    inputs: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]
) -> None:
    """Raise Invalid unless the dataset has each column that the model needs, of its type."""
    types = {column["name"]: column["type"] for column in columns}
    missing = {column["name"]: column["missing"] for column in columns}
    faults = []
    for column in inputs:
        name, wanted = column["name"], column["type"]
        if name not in types:
            faults.append(FieldError("/dataset", "required", f"It has no column {name}"))
        elif types[name] not in _FITS.get(wanted, {wanted}):
            detail = f"Its column {name} is of type {types[name]}, the model wants {wanted}"
            faults.append(FieldError("/dataset", "type", detail))
        elif missing[name] and not column["nullable"]:
            detail = f"Its column {name} has missing values, the model's training saw none"
            faults.append(FieldError("/dataset", "null", detail))
    if faults:
        raise Invalid("The dataset doesn't fit the model's signature", errors=faults[:100])
