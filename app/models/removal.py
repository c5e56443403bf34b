"""Removes what others may refer to: a model, or a version of one.

In order: one transaction announces the removal, after which nothing new can begin to refer to the
thing; then the services that may refer to it are asked, outside of any transaction; then one
transaction takes the rows away, and last the bytes go. A removal that is refused, or fails, is
called off; one whose process died is forgotten after a minute.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict, ServiceError, StillReferred
from app.kernel.sql import new_id, utc_now
from app.models.lookup import (
    REMOVAL_LEASE,
    find_model,
    find_version,
    is_being_removed,
    lock_version,
    refresh_newest,
    refuse_removal,
)
from app.models.ports import Reference, Referrer
from app.models.tables import Alias, AliasMove, Artifact, Model, Version

Row = TypeVar("Row", Model, Version)


@dataclass(frozen=True)
class Plan:
    """What a removal would take away, and what stands in its way."""

    model: str
    versions: list[int]
    artifacts: int
    bytes: int
    referrers: list[Reference]

    @property
    def allowed(self) -> bool:
        """Whether nothing stands in its way."""
        return not self.referrers


@dataclass(frozen=True)
class _Target(Generic[Row]):
    """What is to be removed: how it is found and locked, and what of our own forbids it."""

    find: Callable[[Session], Row]
    refuse: Callable[[Session, Row], None]


@dataclass(frozen=True)
class _Removal(Generic[Row]):
    """A removal under way: ``token`` tells it from one that took over later."""

    target: _Target[Row]
    token: str


class Removals:
    """The removals of one database."""

    def __init__(self, changes: Changes, referrers: Sequence[Referrer]) -> None:
        self._changes = changes
        self._referrers = tuple(referrers)

    def plan_model(self, call: Call, name: str) -> Plan:
        """What ``remove_model`` would do."""
        with self._changes.database.read() as session:
            model = find_model(session, call, name)
            versions = list(session.scalars(select(Version).where(Version.model_id == model.id)))
            own = _aliases_as_references(session, model, None)
        return _plan(name, versions, [*own, *self._references(call, name, None)])

    def plan_version(self, call: Call, model: str, number: int) -> Plan:
        """What ``remove_version`` would do."""
        with self._changes.database.read() as session:
            parent = find_model(session, call, model)
            version = find_version(session, call, model, number)
            own = _aliases_as_references(session, parent, number)
        return _plan(model, [version], [*own, *self._references(call, model, number)])

    def remove_model(self, call: Call, name: str) -> None:
        """Take away a model with all its versions and the history of its aliases.

        Raises StillReferred, also while an alias exists; Conflict; Unavailable when a service that
        may refer to it can't be asked.
        """

        def find(session: Session) -> Model:
            return find_model(session, call, name, lock=True)

        def refuse(session: Session, row: Model) -> None:
            _refuse_aliases(session, row, None)

        with self._announced(call, _Target(find, refuse)) as removal:
            self._refuse_references(call, name, None)
            with self._completed(call, removal) as (change, model):
                _take_versions(change.session, Version.model_id == model.id)
                change.session.execute(delete(AliasMove).where(AliasMove.model_id == model.id))
                change.session.delete(model)
                change.record("model.deleted", model.subject, {"model": name})

    def remove_version(self, call: Call, model: str, number: int) -> None:
        """Take away one version; its number is never used again. Raises as ``remove_model``."""

        def find(session: Session) -> Version:
            return lock_version(session, call, model, number)[1]

        def refuse(session: Session, _row: Version) -> None:
            parent = find_model(session, call, model)
            refuse_removal(parent)
            _refuse_aliases(session, parent, number)

        with self._announced(call, _Target(find, refuse)) as removal:
            self._refuse_references(call, model, number)
            with self._completed(call, removal) as (change, version):
                parent = find_model(change.session, call, model, lock=True)
                _take_versions(change.session, Version.id == version.id)
                refresh_newest(change.session, parent)
                change.record(
                    "version.deleted", version.subject, {"model": model, "version": number}
                )

    @contextmanager
    def _announced(self, call: Call, target: _Target[Row]) -> Iterator[_Removal[Row]]:
        """Announce a removal for the block; when the block raises, it is called off."""
        with self._changes.begin(call) as change:
            row = target.find(change.session)
            change.guard(row)
            refuse_removal(row)
            target.refuse(change.session, row)
            kind, row_id, token = type(row), row.id, new_id()
            # Not through the row: its ETag says nothing of a removal that may be called off.
            change.session.execute(
                update(kind)
                .where(kind.id == row_id)
                .values(
                    removal=token,
                    removal_until=utc_now() + REMOVAL_LEASE,
                    updated_at=kind.updated_at,
                )
                .execution_options(synchronize_session=False)
            )
        try:
            yield _Removal(target, token)
        except BaseException:
            with suppress(ServiceError), self._changes.database.write() as session:
                session.execute(
                    update(kind)
                    .where(kind.id == row_id, kind.removal == token)
                    .values(removal=None, removal_until=None, updated_at=kind.updated_at)
                )
            raise

    @contextmanager
    def _completed(self, call: Call, removal: _Removal[Row]) -> Iterator[tuple[Change, Row]]:
        """The transaction that takes the rows away; raises Conflict when it comes too late."""
        with self._changes.begin(call) as change:
            row = removal.target.find(change.session)
            change.guard(row)
            removal.target.refuse(change.session, row)
            if row.removal != removal.token or not is_being_removed(row):
                raise Conflict("The removal took too long; try again", retry_after=1)
            yield change, row

    def _references(self, call: Call, model: str, version: int | None) -> list[Reference]:
        with self._changes.database.read() as session:
            default = find_model(session, call, model).default_version
        is_default = version is not None and version == default
        return [
            found
            for referrer in self._referrers
            for found in referrer.references(call, model, version, is_default=is_default)
        ]

    def _refuse_references(self, call: Call, model: str, version: int | None) -> None:
        _refuse(self._references(call, model, version))


def _plan(model: str, versions: Sequence[Version], found: list[Reference]) -> Plan:
    artifacts = [artifact for version in versions for artifact in version.all_artifacts]
    return Plan(
        model=model,
        versions=sorted(version.number for version in versions),
        artifacts=len(artifacts),
        bytes=sum(artifact.bytes for artifact in artifacts),
        referrers=found,
    )


def _aliases_as_references(session: Session, model: Model, version: int | None) -> list[Reference]:
    query = select(Alias).where(Alias.model_id == model.id).order_by(Alias.alias)
    if version is not None:
        query = query.where(Alias.version == version)
    return [
        Reference("models", row.subject, "set", f"It points at version {row.version}")
        for row in session.scalars(query)
    ]


def _refuse_aliases(session: Session, model: Model, version: int | None) -> None:
    _refuse(_aliases_as_references(session, model, version))


def _refuse(found: list[Reference]) -> None:
    if found:
        told = [vars(reference) for reference in found[:100]]
        raise StillReferred(
            f"{found[0].subject} still refers to it"
            + (f", and {len(found) - 1} more" if len(found) > 1 else ""),
            extra={"referrers": told},
        )


def _take_versions(session: Session, which: object) -> None:
    """Delete versions; their artifacts stay behind without one, to be cleared away."""
    ids = select(Version.id).where(which)  # type: ignore[arg-type]
    session.execute(
        update(Artifact)
        .where(Artifact.version_id.in_(ids))
        .values(version_id=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        delete(Version).where(which).execution_options(synchronize_session=False)  # type: ignore[arg-type]
    )
