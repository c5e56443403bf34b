"""How an upload becomes a version.

In order: the upload lies whole on the disk; the ingest process turns it into Parquet; that goes
into the store; one transaction numbers the version and makes its row. Whatever fails on the way
leaves neither a row nor bytes (what a killed process leaves in the store or in the work folders is
no version, and ``leftovers`` removes it). backlog.py does the same as a job.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from app.datasets.lookup import (
    QUEUED,
    SUCCEEDED,
    NewDataset,
    find_dataset,
    insert_dataset,
    refuse_removal,
    refuse_taken,
)
from app.datasets.ports import Beat, Converted, Ingest
from app.datasets.tables import Dataset, Version
from app.datasets.uploads import Upload
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import Stored
from app.kernel.auth import Call
from app.kernel.changes import Accepted, Change, Changes, Created, Result
from app.kernel.errors import ServiceError
from app.kernel.sql import Database, new_id, utc_now

Target = str | NewDataset


@dataclass(frozen=True)
class Made:
    """A converted upload whose bytes are in the store."""

    converted: Converted
    parquet: Stored
    rejects: Stored | None
    undo: "Undo"


class Filled(Created):
    """A new dataset with its first version, or without any."""

    def __init__(self, dataset: Dataset, version: Version | None) -> None:
        super().__init__(dataset)
        self.version = version


class Filling(Accepted):
    """A new dataset whose first version is being made: that is where to look."""

    def __init__(self, dataset: Dataset, version: Version) -> None:
        super().__init__(dataset)
        self.version = version
        self.subject, self.etag = version.subject, version.etag


class Conversions:
    """Makes versions at once. A target is the name of a dataset, or one that is to be made."""

    def __init__(self, database: Database, store: ArtifactStore, ingest: Ingest) -> None:
        self._changes = Changes(database, "datasets")
        self._database = database
        self._store = store
        self._ingest = ingest

    def check(self, call: Call, target: Target) -> None:
        """Raise NotFound or Conflict unless a version can be made there, as far as is known now."""
        with self._database.read() as session:
            if isinstance(target, NewDataset):
                refuse_taken(session, call, target.name)
            else:
                refuse_removal(find_dataset(session, call, target))

    def add(
        self,
        call: Call,
        target: Target,
        upload: Upload,
        beat: Beat,
        *,
        also: Callable[[Change, Version], None] = lambda _change, _version: None,
    ) -> Result:
        """Make a version now; a new dataset is made with it, or not at all.

        ``also`` is what else its transaction does with it; what that raises leaves nothing behind.
        Raises Invalid, TooLarge, StorageFull, Conflict, NotFound.
        """
        self.check(call, target)
        converting = self.made(call.project, upload, beat, deadline=call.deadline)
        with converting as made, self._changes.begin(call) as change:
            dataset = open_target(change, target)
            version = number_version(change, dataset, upload)
            version.started_at = version.created_at
            also(change, version)
            complete(change, dataset, version, made)
            result = Filled(dataset, version) if is_new(target) else Created(version)
            change.answer(result)
            made.undo.committing = True
        return result

    @contextmanager
    def made(
        self, project: str, upload: Upload, beat: Beat, *, deadline: float | None = None
    ) -> Iterator[Made]:
        """Convert and store; the bytes are taken back when the block fails."""
        converted = self._ingest.convert(upload, beat, deadline=deadline)
        name = f"{project}/datasets/{new_id()}"
        table, rejects = f"{name}.parquet", f"{name}.rejects"
        with undone_on_failure(self._store, table, rejects) as undo:
            yield Made(
                converted,
                self._store.put(table, converted.parquet),
                self._store.put(rejects, converted.rejects) if converted.rejects else None,
                undo,
            )


def is_new(target: Target) -> bool:
    """Whether the dataset is to be made, too."""
    return isinstance(target, NewDataset)


@dataclass
class Undo:
    """What was put into the store for a row. ``committing``: the row may be there from now on."""

    keys: tuple[str, ...]
    committing: bool = False


@contextmanager
def undone_on_failure(store: ArtifactStore, *keys: str) -> Iterator[Undo]:
    """Delete the keys when the block raises, unless it was already committing.

    A commit that fails may have come through all the same; ``leftovers`` will know later.
    """
    undo = Undo(keys)
    try:
        yield undo
    except BaseException:
        if not undo.committing:
            for key in keys:
                with suppress(ServiceError):
                    store.delete(key)
        raise


def open_target(change: Change, target: Target) -> Dataset:
    """The dataset to put a version into, locked or just made."""
    if isinstance(target, NewDataset):
        return insert_dataset(change, target)
    dataset = find_dataset(change.session, change.call, target, lock=True)
    refuse_removal(dataset)
    return dataset


def number_version(change: Change, dataset: Dataset, upload: Upload) -> Version:
    """The next version of a locked dataset, queued."""
    dataset.last_number += 1
    reading = upload.request.as_json()
    # The file will lie elsewhere when it is read again.
    del reading["source"]
    version = Version(
        project=dataset.project,
        dataset_id=dataset.id,
        dataset=dataset.name,
        number=dataset.last_number,
        state=QUEUED,
        progress=progress(0.0, QUEUED),
        format=upload.request.format,
        filename=upload.filename,
        source_digest=upload.digest,
        source_bytes=upload.bytes,
        reading=reading,
        created_by=change.call.key_id,
        request_id=change.call.request_id,
        created_at=utc_now(),
        attempt=1,
    )
    change.session.add(version)
    return version


def complete(change: Change, dataset: Dataset, version: Version, made: Made) -> None:
    """Make a version of a locked dataset ready."""
    converted, rejects = made.converted, made.rejects
    version.digest, version.rows = converted.digest, converted.rows
    version.columns, version.warnings = converted.columns, converted.warnings
    version.rejected = converted.rejected
    version.storage_key, version.storage_digest = made.parquet.key, made.parquet.digest
    version.bytes = made.parquet.bytes
    if rejects is not None:
        version.rejects_key, version.rejects_digest = rejects.key, rejects.digest
        version.rejects_bytes = rejects.bytes
    version.state, version.finished_at = SUCCEEDED, utc_now()
    version.progress, version.upload_key = progress(1.0, "done"), None
    dataset.newest_version = max(dataset.newest_version or 0, version.number)
    told = {**told_of(version), "rows": version.rows, "digest": version.digest}
    change.record("dataset.version.ready", version.subject, told)


def progress(fraction: float, step: str, message: str = "") -> dict[str, Any]:
    """How far a version is, as clients see it."""
    return {"fraction": fraction, "step": step, "message": message}


def told_of(version: Version) -> dict[str, Any]:
    """What every event of a version says."""
    return {"dataset": version.dataset, "version": version.number}
