"""What killed processes left behind: it is no version, nobody will ask for it, it takes space."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import delete, or_, select

from app.datasets.tables import Hold, Version
from app.kernel.artifacts.store import ArtifactStore, check_bytes
from app.kernel.artifacts.stored import ArtifactCorrupt, Stored
from app.kernel.findings import Finding
from app.kernel.sql import Database, utc_now
from app.kernel.work_folders import sweep_work

_BATCH = 500


@dataclass(frozen=True)
class Swept:
    """How much was removed: work folders, things in the store, holds that have run out."""

    folders: int
    stored: int
    holds: int


class Leftovers:
    """Removes what has no row and is old enough that nobody is still at it."""

    def __init__(self, database: Database, store: ArtifactStore, work: Path) -> None:
        self._database = database
        self._store = store
        self._work = work

    def sweep(self, older_than: float = 3600.0) -> Swept:
        """Remove what is ``older_than`` seconds old."""
        swept = 0
        for key in self.orphans(older_than):
            self._store.delete(key)
            swept += 1
        return Swept(sweep_work(self._work, older_than), swept, self._forget_holds())

    def orphans(self, older_than: float = 3600.0) -> Iterator[str]:
        """The keys in the store that belong to no version, and are that old."""
        before = utc_now() - timedelta(seconds=older_than)
        old = (thing.key for thing in self._store.list() if thing.modified_at <= before)
        ours = (key for key in old if key.split("/")[1:2] in (["datasets"], ["uploads"]))
        for batch in _batches(ours):
            known = self._known(batch)
            yield from (key for key in batch if key not in known)

    def faults(self) -> Iterator[Finding]:
        """The versions whose bytes are gone or changed; reads all of them."""
        for subject, stored in _named_in(self._database):
            try:
                check_bytes(self._store, stored)
            except ArtifactCorrupt as error:
                # Else it was deleted meanwhile.
                if self._known([stored.key]):
                    yield Finding("corrupt", subject, error.detail, mended=False)

    def _known(self, keys: list[str]) -> set[str]:
        columns = (Version.storage_key, Version.rejects_key, Version.upload_key)
        query = select(*columns).where(or_(*(column.in_(keys) for column in columns)))
        with self._database.read() as session:
            return {key for row in session.execute(query) for key in row if key is not None}

    def _forget_holds(self) -> int:
        with self._database.write() as session:
            gone = session.scalars(delete(Hold).where(Hold.until < utc_now()).returning(Hold.id))
            return len(gone.all())


def stored_in(database: Database) -> Iterator[Stored]:
    """All that the versions of a database name in the store."""
    return (stored for _, stored in _named_in(database))


def _named_in(database: Database) -> Iterator[tuple[str, Stored]]:
    """The same, each with the path of its version."""
    things = (
        (Version.storage_key, Version.storage_digest, Version.bytes),
        (Version.rejects_key, Version.rejects_digest, Version.rejects_bytes),
        (Version.upload_key, Version.source_digest, Version.source_bytes),
    )
    for columns in things:
        query = select(Version.dataset, Version.number, *columns).where(columns[0].is_not(None))
        with database.read() as session:
            rows = session.execute(query).all()
        for dataset, number, key, digest, size in rows:
            stored = Stored(key or "", digest or "", size or 0)
            yield f"datasets/{dataset}/versions/{number}", stored


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
