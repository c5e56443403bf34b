"""Batch predictions as clients see them: asked for, listed, watched, cancelled, deleted, read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.auth import Call
from app.kernel.errors import Conflict, FieldError, Invalid, NotFound, ServiceError
from app.kernel.holds import released_after
from app.kernel.http.pagination import Listing
from app.kernel.http.sendable import Sendable
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.long_work.desk import WorkDesk, WorkKind
from app.kernel.long_work.lifecycle import SUCCEEDED
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id
from app.predictions.contents import BatchContents
from app.predictions.directory import Directory, Reference
from app.predictions.ports import Datasets, HeldDataset
from app.predictions.tables import BatchPart, BatchPrediction

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
KIND = WorkKind("predictions", "batch", JOB, "batch prediction", BatchPrediction, BATCHES)


class BatchPredictions(WorkDesk[BatchPrediction]):
    """What a client can do with batch predictions."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        jobs: BoundedQueue,
        directory: Directory,
        datasets: Datasets,
        store: ArtifactStore,
    ) -> None:
        super().__init__(KIND, database, ring, jobs)
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
                self._enqueue(change, batch)
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
        release = partial(self._datasets.release, call, holder=holder)
        with released_after(held, release):
            yield held

    def cancel(self, call: Call, work_id: str) -> BatchPrediction:
        """Stop it, and forget what an interrupted attempt has left of it."""
        batch = super().cancel(call, work_id)
        if batch.ended:
            with suppress(ServiceError):
                self.contents.parts.clear(batch.id)
        return batch

    def _forget(self, session: Session, row: BatchPrediction) -> None:
        session.execute(delete(BatchPart).where(BatchPart.batch_id == row.id))

    def delete(self, call: Call, work_id: str) -> BatchPrediction:
        """Forget an ended batch, then its contents; Conflict while it lives."""
        batch = super().delete(call, work_id)
        self.contents.clear(batch)
        return batch

    def sweep(self, now: datetime) -> int:
        """Forget the ended batches, with their contents, that the models' retention no longer
        keeps; the count.
        """
        with self._database.read() as session:
            query = select(BatchPrediction.project, BatchPrediction.model).distinct()
            models = session.execute(query).all()
        return sum(self._retain(project, model, now) for project, model in models)

    def _retain(self, project: str, model: str, now: datetime) -> int:
        days = self._directory.retention(project, model).get("max_age_days")
        if days is None:
            return 0
        query = select(BatchPrediction.id).where(
            BatchPrediction.project == project,
            BatchPrediction.model == model,
            BatchPrediction.finished_at < now - timedelta(days=days),
        )
        with self._database.read() as session:
            over = session.scalars(query).all()
        call = Call(project, "retention", frozenset(), f"retention-{new_id()}")
        for batch_id in over:
            # Another worker keeps house, too.
            with suppress(NotFound):
                self.delete(call, batch_id)
        return len(over)

    def content(self, call: Call, batch_id: str, format_: str) -> Sendable:
        """A succeeded batch's result; raises Conflict before that, ArtifactCorrupt."""
        batch = self.get(call, batch_id)
        if batch.stored_state != SUCCEEDED or batch.contents is None:
            raise Conflict(f"The batch prediction is {batch.state}: there is no content")
        return self.contents.download(call, batch, format_)

    def references(
        self, call: Call, *, dataset: str | None, version: int | None, model: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """The batches not ended that need a dataset or a model, of one version or of any."""
        which: list[ColumnElement[bool]] = []
        if dataset is not None:
            which.append(BatchPrediction.dataset == dataset)
            if version is not None:
                which.append(BatchPrediction.dataset_version == version)
        if model is not None:
            which.append(BatchPrediction.model == model)
            if version is not None:
                which.append(BatchPrediction.version == version)
        return self._unended(call, *which)


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
