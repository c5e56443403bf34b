"""Versions that are made later: the upload is kept, a job converts it.

In order: the upload goes into the store; one transaction makes a ``queued`` row and its job; a
worker fetches the upload and converts it; one transaction completes the row and ends the job; the
upload is deleted.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from app.datasets.conversion import (
    Conversions,
    Filling,
    Made,
    Target,
    complete,
    is_new,
    number_version,
    open_target,
    told_of,
    undone_on_failure,
)
from app.datasets.ingest_request import IngestRequest
from app.datasets.lookup import FAILED, QUEUED, RUNNING
from app.datasets.ports import Beat
from app.datasets.tables import Dataset, Version
from app.datasets.uploads import Upload
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.auth import Call
from app.kernel.changes import Accepted, Change, Changes, Result
from app.kernel.errors import ServiceError, Unavailable
from app.kernel.http.uploads import throttled
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.jobs.claims import Fenced, Job
from app.kernel.sql import Database, new_id, utc_now
from app.kernel.work_folders import work_folder

KIND = "dataset-version"
_PROGRESS_SECONDS = 1.0


class _Gone(Exception):
    """The version was deleted, or has ended, while a worker was at it."""


class Backlog:
    """Takes uploads to convert later, and converts them."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        conversions: Conversions,
        jobs: BoundedQueue,
        *,
        work: Path,
    ) -> None:
        self._changes = Changes(database, "datasets")
        self._database = database
        self._store = store
        self._conversions = conversions
        self._jobs = jobs
        self._work = work

    def enqueue(self, call: Call, target: Target, upload: Upload) -> Result:
        """Keep the upload, and make the version later; raises TooManyRequests, Unavailable."""
        self._conversions.check(call, target)
        key = f"{call.project}/uploads/{new_id()}"
        with undone_on_failure(self._store, key) as undo:
            self._store.put(key, upload.path)
            with self._changes.begin(call) as change:
                self._jobs.admit(change.session, KIND, call.project)
                dataset = open_target(change, target)
                version = number_version(change, dataset, upload)
                version.upload_key, version.attempt = key, 0
                change.session.flush()
                self._jobs.enqueue(
                    change.session, KIND, version.id, project=call.project, trace=call.trace
                )
                change.record("dataset.version.queued", version.subject, told_of(version))
                result = Filling(dataset, version) if is_new(target) else Accepted(version)
                change.answer(result)
                undo.committing = True
        return result

    def run(self, job: Job) -> None:
        """Do the work of a queued version. Raises what the job's worker knows how to take."""
        version = self._start(job)
        if version is None:
            return
        with suppress(_Gone), work_folder(self._work, version.source_bytes) as folder:
            upload = self._fetched(version, folder)
            with self._conversions.made(version.project, upload, self._beat(job)) as made:
                self._finish(job, version, made)
        self._forget_upload(version)

    def fail(self, job: Job, error: Exception) -> None:
        """End the version as failed, with the reason."""
        with self._database.read() as session:
            version = session.get(Version, job.ref)
        if version is None:
            return
        with suppress(_Gone), self._changes.begin(_call_of(version)) as change:
            _, row = _lock(change, version)
            row.state, row.finished_at = FAILED, utc_now()
            row.error = _explained(error)
            row.upload_key = None
            told = {**told_of(row), "code": row.error["code"]}
            change.record("dataset.version.failed", row.subject, told)
        self._forget_upload(version)

    def _start(self, job: Job) -> Version | None:
        with self._database.write() as session:
            row = session.scalar(select(Version).where(Version.id == job.ref).with_for_update())
            if row is None or row.state not in (QUEUED, RUNNING):
                return None
            if row.attempt > job.attempt:
                raise Fenced(f"job {job.id}, attempt {job.attempt}")
            row.state, row.attempt = RUNNING, job.attempt
            row.started_at = row.started_at or utc_now()
        return row

    def _fetched(self, version: Version, folder: Path) -> Upload:
        request = IngestRequest.from_json({**version.reading, "source": str(folder / "source")})
        upload = Upload(
            folder, version.source_bytes, version.source_digest, version.filename, request
        )
        key = version.upload_key or ""
        self._store.fetch(key, upload.digest, upload.path, size=upload.bytes)
        return upload

    def _beat(self, job: Job) -> Beat:
        def keep(progress: Mapping[str, Any]) -> None:
            # Past the ORM: progress is no change of the resource, so ETag and times stay.
            table = Version.__table__
            mine = (table.c.id == job.ref, table.c.attempt == job.attempt)
            # An outage of the database shorter than the job's lease is none of our business.
            with suppress(Unavailable), self._database.write() as session:
                session.execute(
                    update(Version.__table__)  # type: ignore[arg-type]
                    .where(*mine, table.c.state == RUNNING)
                    .values(progress=dict(progress), updated_at=table.c.updated_at)
                )

        keep_sometimes = throttled(_PROGRESS_SECONDS, keep)

        def beat(progress: Mapping[str, Any]) -> None:
            job.check()
            keep_sometimes(progress)

        return beat

    def _finish(self, job: Job, version: Version, made: Made) -> None:
        with self._changes.begin(_call_of(version)) as change:
            dataset, row = _lock(change, version)
            complete(change, dataset, row, made)
            job.complete(change.session)
            made.undo.committing = True

    def _forget_upload(self, version: Version) -> None:
        if version.upload_key is not None:
            with suppress(ServiceError):
                self._store.delete(version.upload_key)


def _lock(change: Change, version: Version) -> tuple[Dataset, Version]:
    """Both rows, for a worker; raises _Gone when there is nothing left to do."""
    dataset = change.session.get(Dataset, version.dataset_id, with_for_update=True)
    row = change.session.get(Version, version.id, with_for_update=True)
    if dataset is None or row is None or row.state not in (QUEUED, RUNNING):
        raise _Gone
    return dataset, row


def _call_of(version: Version) -> Call:
    """The request that brought the upload, as the one that the worker acts for."""
    return Call(version.project, version.created_by, frozenset(), version.request_id)


def _explained(error: Exception) -> dict[str, Any]:
    """Why a version failed, as a client may know it."""
    if isinstance(error, ServiceError):
        return {
            "code": error.code.replace("-", "_"),
            "detail": error.detail,
            "retryable": error.retryable,
            "errors": [found.as_dict() for found in error.errors],
        }
    lost = getattr(error, "code", "") == "lost_worker"
    return {
        "code": "lost_worker" if lost else "internal",
        "detail": "The workers that tried it died" if lost else "Something of ours broke",
        "retryable": lost,
        "errors": [],
    }
