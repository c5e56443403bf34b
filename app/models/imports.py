"""Imports: a client's skops file becomes a version.

In order: the file lies in the store and its version is ``importing``, numbered and with a job, all
in one transaction; a worker converts it in a sandbox; one more transaction makes the version
``ready`` with artifacts of our own, or ``failed`` with the reason. The client's file is never
loaded anywhere else, and goes when the import ends.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import Stored
from app.kernel.auth import Call
from app.kernel.changes import Accepted, Change, Changes
from app.kernel.errors import Conflict, Invalid, NotFound, ServiceError, TooManyRequests
from app.kernel.jobs.claims import Job
from app.kernel.signing import KeyRing
from app.kernel.sql import new_id
from app.models.lookup import find_model, refresh_newest, refuse_removal
from app.models.ports import Jobs
from app.models.tables import FAILED, IMPORTING, READY, UPLOAD, Artifact, Version
from app.models.versions import NewArtifact, attach, event_data, next_version

JOB = "import_skops"
MOST_SKOPS_BYTES = 512 << 20
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class SkopsUpload:
    """A client's file on this disk, and what the client says of it.

    ``inputs`` are the columns of the signature to be, ``[{name, type, nullable}]``.
    """

    path: Path
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Mapping[str, Any], ...] | None = None

    def check(self) -> None:
        """Raise Invalid for what can't be a skops file: nothing of it need be kept then."""
        with self.path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                raise Invalid.at("/file", "not_skops", "This is not a skops file (a ZIP archive)")


@dataclass(frozen=True)
class Imported:
    """What a worker has made of a client's file: our own artifacts and what is known of them."""

    task: str
    artifacts: tuple[NewArtifact, ...]
    document: Mapping[str, Any]


class Imports:
    """What can be done with imports. ``most_importing`` of a project may be under way at once."""

    def __init__(
        self,
        changes: Changes,
        ring: KeyRing,
        store: ArtifactStore,
        jobs: Jobs,
        *,
        most_importing: int,
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._ring = ring
        self._store = store
        self._jobs = jobs
        self._most_importing = most_importing

    def admit(self, call: Call, model: str) -> None:
        """Raise NotFound, Conflict or TooManyRequests before the upload is read."""
        with self._database.read() as session:
            refuse_removal(find_model(session, call, model))
            self._refuse_too_many(session, call)

    def accept(self, call: Call, model: str, upload: SkopsUpload) -> Accepted:
        """Number a version that will be ready, or failed, when a worker has looked at the file.

        Raises Invalid for what is no ZIP archive, and as ``admit``.
        """
        upload.check()
        stored = self._store.put(f"{call.project}/models/{new_id()}.skops", upload.path)
        try:
            return self._accept(call, model, upload, stored)
        except (Conflict, NotFound, TooManyRequests):
            # Of any other error nobody knows whether the row was written: the collector will see.
            with suppress(ServiceError):
                self._store.delete(stored.key)
            raise

    def _accept(self, call: Call, model: str, upload: SkopsUpload, stored: Stored) -> Accepted:
        with self._changes.begin(call) as change:
            parent = find_model(change.session, call, model, lock=True)
            refuse_removal(parent)
            self._refuse_too_many(change.session, call)
            row = next_version(
                change,
                parent,
                state=IMPORTING,
                description=upload.description,
                tags=dict(upload.tags),
                document={"lineage": {"source_digest": stored.digest}, "inputs": upload.inputs},
            )
            attach(change.session, self._ring, row, (NewArtifact(UPLOAD, stored),))
            self._jobs.enqueue(change.session, JOB, row.id, project=call.project, trace=call.trace)
            refresh_newest(change.session, parent)
            change.record("version.importing", row.subject, event_data(row))
            answer = Accepted(row)
            change.answer(answer)
        return answer

    def _refuse_too_many(self, session: Session, call: Call) -> None:
        query = select(func.count(Version.id)).where(
            Version.project == call.project, Version.state == IMPORTING
        )
        if (session.scalar(query) or 0) >= self._most_importing:
            raise TooManyRequests(
                f"{self._most_importing} imports of this project are under way", retry_after=5
            )

    def waiting(self, version_id: str) -> tuple[Version, Stored] | None:
        """An import that is still to be done, and the client's file; None when it is not."""
        with self._database.read() as session:
            row = session.get(Version, version_id)
        if row is None or row.state != IMPORTING:
            return None
        uploads = [artifact.stored for artifact in row.all_artifacts if artifact.format == UPLOAD]
        return row, uploads[0]

    def finish(self, job: Job, version: Version, made: Imported) -> None:
        """The version is ready; ends the job. Raises Fenced when it is another worker's by now."""
        with self._changes.begin(_worker_call(job)) as change:
            row = self._end(change, version)
            if row is not None:
                row.state, row.task = READY, made.task
                row.document = dict(made.document)
                attach(change.session, self._ring, row, made.artifacts)
                refresh_newest(change.session, find_model(change.session, change.call, row.model))
                change.record("version.registered", row.subject, event_data(row))
            job.complete(change.session)

    def fail(self, job: Job, error: Mapping[str, Any], *, ends_job: bool = True) -> None:
        """The version has failed: ``error`` is ``{code, detail, retryable, errors}``.

        Raises Fenced when the job is another worker's by now.
        """
        with self._database.read() as session:
            version = session.get(Version, job.ref)
        with self._changes.begin(_worker_call(job)) as change:
            row = None if version is None else self._end(change, version)
            if row is not None:
                row.state, row.error = FAILED, dict(error)
                change.record(
                    "version.failed", row.subject, {**event_data(row), "code": error["code"]}
                )
            if ends_job:
                job.complete(change.session)

    def _end(self, change: Change, version: Version) -> Version | None:
        """The row, locked and without the client's file; None when there is nothing to end."""
        try:
            find_model(change.session, change.call, version.model, lock=True)
        except NotFound:
            return None
        row = change.session.get(Version, version.id, with_for_update=True)
        if row is None or row.state != IMPORTING:
            return None
        change.session.execute(
            update(Artifact)
            .where(Artifact.version_id == row.id, Artifact.format == UPLOAD)
            .values(version_id=None)
        )
        return row


def _worker_call(job: Job) -> Call:
    return Call(job.project, "worker", frozenset(), f"job-{job.id}", peer="models")
