"""Deleting datasets and versions that nobody needs, and the holds that forbid it.

A referrer takes a hold, then makes its own row; from then on it is found by asking, and the hold is
let go or runs out. A deletion
goes: mark (refused while anything is held; from here on nobody gets a hold), ask every service that
may refer, delete the rows, delete the bytes. Any reference, and any service that can't be asked,
ends it and takes the mark away; the mark of a process that died is worth nothing after a minute.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from app.datasets.lookup import (
    REMOVAL_LEASE,
    SUCCEEDED,
    find_dataset,
    find_version,
    is_being_removed,
    refuse_removal,
    stored_table,
)
from app.datasets.ports import Reference, Referrer
from app.datasets.tables import Dataset, Hold, Version
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import Stored
from app.kernel.auth import Call
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict, NotFound, ServiceError, StillReferred
from app.kernel.sql import Database, new_id, utc_now

_LISTED = 100


@dataclass(frozen=True)
class Held:
    """What a holder may rely on until its hold ends; ``columns`` are the whole profile."""

    dataset: str
    version: int
    digest: str
    rows: int
    columns: Sequence[Mapping[str, Any]]
    storage: Stored
    origin: Mapping[str, Any] | None


@dataclass(frozen=True)
class Plan:
    """What a deletion would do now: what goes, and what forbids it."""

    dataset: str
    versions: list[int]
    bytes: int
    referrers: list[Reference]

    @property
    def allowed(self) -> bool:
        """Whether nothing forbids it."""
        return not self.referrers


@dataclass(frozen=True)
class _Marked:
    """A deletion under way: its own name, and the rows that it has marked."""

    removal: str
    dataset_id: str
    version_ids: list[str]


class Removal:
    """Holds versions, and deletes what is not held."""

    def __init__(
        self, database: Database, store: ArtifactStore, referrers: Sequence[Referrer]
    ) -> None:
        self._changes = Changes(database, "datasets")
        self._database = database
        self._store = store
        self._referrers = referrers

    def hold(
        self, call: Call, dataset: str, number: int | None, *, holder: str, seconds: int
    ) -> Held:
        """Keep a version (None: the newest ready one) from deletion for some seconds.

        The same holder again holds anew, or lets go with 0 ``seconds``. Raises NotFound, or
        Conflict when the version is not ready or being deleted.
        """
        with self._database.write() as session:
            parent = find_dataset(session, call, dataset, lock=True)
            refuse_removal(parent)
            wanted = number or parent.newest_version
            if wanted is None:
                raise Conflict(f"The dataset {dataset} has no version that is ready")
            version = find_version(session, call, dataset, wanted, lock=True)
            refuse_removal(version)
            storage = stored_table(version)
            same = (Hold.version_id == version.id, Hold.holder == holder)
            session.execute(delete(Hold).where(*same))
            if seconds:
                until = utc_now() + timedelta(seconds=seconds)
                session.add(Hold(version_id=version.id, holder=holder, until=until))
        return Held(
            dataset=version.dataset,
            version=version.number,
            digest=version.digest or "",
            rows=version.rows or 0,
            columns=version.columns or [],
            storage=storage,
            origin=version.origin,
        )

    def plan(self, call: Call, dataset: str, number: int | None) -> Plan:
        """What deleting a version (None: the dataset with all of them) would do."""
        with self._database.read() as session:
            parent, versions = _find(session, call, dataset, number)
            held = _holds(session, versions)
        return Plan(
            dataset=parent.name,
            versions=[version.number for version in versions],
            bytes=sum(version.bytes or 0 for version in versions),
            referrers=[*held, *self._references(call, dataset, number)],
        )

    def remove(self, call: Call, dataset: str, number: int | None) -> None:
        """Delete a version, or the dataset with all of them.

        Raises NotFound, PreconditionFailed, StillReferred, Unavailable when a service that may
        refer can't be asked, Conflict while somebody else is deleting it.
        """
        marked = self._mark(call, dataset, number)
        try:
            _refuse(self._references(call, dataset, number))
            keys = self._delete_rows(call, marked, number)
        except BaseException:
            with suppress(ServiceError):
                self._unmark(marked)
            raise
        for key in keys:
            # What can't be deleted now has no row any more: ``leftovers`` will find it.
            with suppress(ServiceError):
                self._store.delete(key)

    def _mark(self, call: Call, dataset: str, number: int | None) -> _Marked:
        with self._changes.begin(call) as change:
            session = change.session
            parent, versions = _find(session, call, dataset, number, lock=True)
            change.guard(parent if number is None else versions[0])
            refuse_removal(parent)
            for version in versions:
                refuse_removal(version)
            _refuse(_holds(session, versions))
            marked = _Marked(new_id(), parent.id, [version.id for version in versions])
            until = utc_now() + REMOVAL_LEASE
            if number is None:
                _set_marks(session, Dataset, Dataset.id == parent.id, marked.removal, until)
            chosen = Version.id.in_(marked.version_ids)
            _set_marks(session, Version, chosen, marked.removal, until)
        return marked

    def _unmark(self, marked: _Marked) -> None:
        with self._database.write() as session:
            for table in (Dataset, Version):
                _set_marks(session, table, table.removal == marked.removal, None, None)

    def _references(self, call: Call, dataset: str, number: int | None) -> list[Reference]:
        return [
            found
            for referrer in self._referrers
            for found in referrer.references(call, dataset, number)
        ]

    def _delete_rows(self, call: Call, marked: _Marked, number: int | None) -> list[str]:
        """Delete what is still ours to delete; the keys of the bytes that are garbage then."""
        with self._changes.begin(call) as change:
            session = change.session
            parent = session.get(Dataset, marked.dataset_id, with_for_update=True)
            ours = (
                select(Version)
                .where(Version.dataset_id == marked.dataset_id, Version.removal == marked.removal)
                .with_for_update()
            )
            versions = list(session.scalars(ours))
            rows = versions if number is not None else [parent, *versions]
            if parent is None or not _still_ours(rows, marked, len(versions)):
                raise Conflict("It was not deleted in time; try again", retry_after=1)
            for version in versions:
                _delete_version(change, version)
            if number is None:
                session.delete(parent)
                change.record("dataset.deleted", parent.subject, {"dataset": parent.name})
            else:
                parent.newest_version = _newest(session, parent)
            return [key for version in versions for key in _keys(version)]


def _find(
    session: Session, call: Call, dataset: str, number: int | None, *, lock: bool = False
) -> tuple[Dataset, list[Version]]:
    """The dataset, and the one version or all of them; raises NotFound."""
    parent = find_dataset(session, call, dataset, lock=lock)
    query = select(Version).where(Version.dataset_id == parent.id).order_by(Version.number)
    if number is not None:
        query = query.where(Version.number == number)
    versions = list(session.scalars(query.with_for_update() if lock else query))
    if number is not None and not versions:
        raise NotFound(f"There is no version {number} of a dataset {dataset}")
    return parent, versions


def _holds(session: Session, versions: Sequence[Version]) -> list[Reference]:
    """Who holds any of the versions now."""
    ids = [version.id for version in versions]
    query = select(Hold).where(Hold.version_id.in_(ids), Hold.until > utc_now()).limit(_LISTED)
    return [
        Reference("datasets", hold.holder, "held", "It is about to use the version")
        for hold in session.scalars(query)
    ]


def _set_marks(
    session: Session,
    table: type[Dataset | Version],
    which: ColumnElement[bool],
    removal: str | None,
    until: datetime | None,
) -> None:
    # Past the ORM: a mark is no change of the resource, so ETag and times stay.
    values = {"removal": removal, "removal_until": until, "updated_at": table.updated_at}
    session.execute(update(table.__table__).where(which).values(values))  # type: ignore[arg-type]


def _still_ours(rows: Sequence[Dataset | Version | None], marked: _Marked, versions: int) -> bool:
    """Whether all that was marked is still marked by us: else somebody may hold it by now."""
    whole = versions == len(marked.version_ids)
    return whole and all(
        row is not None and row.removal == marked.removal and is_being_removed(row) for row in rows
    )


def _delete_version(change: Change, version: Version) -> None:
    change.session.execute(delete(Hold).where(Hold.version_id == version.id))
    change.session.delete(version)
    told = {"dataset": version.dataset, "version": version.number}
    change.record("dataset.version.deleted", version.subject, told)


def _newest(session: Session, parent: Dataset) -> int | None:
    ready = (Version.dataset_id == parent.id, Version.state == SUCCEEDED)
    return session.scalar(select(func.max(Version.number)).where(*ready))


def _keys(version: Version) -> list[str]:
    keys = (version.storage_key, version.rejects_key, version.upload_key)
    return [key for key in keys if key is not None]


def _refuse(found: Sequence[Reference]) -> None:
    """Raise StillReferred if there is any reference."""
    if not found:
        return
    told = [asdict(reference) for reference in found[:_LISTED]]
    raise StillReferred("Others still refer to it", extra={"referrers": told})
