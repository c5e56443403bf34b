"""Reconciles the store with the tables, both ways: what ``modelyard doctor`` asks of models.

Bytes below ``<project>/models/`` that no row names and that are older than an hour are cleared
away; a younger one may belong to a training that is just about to register it. Versions whose bytes
are gone or changed are marked ``corrupt``, those whose bytes were put back are ``ready`` again.
MACs that an earlier secret made are made anew with the present one, so that it can be retired.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from app.kernel.artifacts.mac import SecretRetired
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import ArtifactCorrupt, Listed, Stored
from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import NotFound, ServiceError
from app.kernel.findings import Finding
from app.kernel.rows import all_rows
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id, utc_now
from app.models.artifacts import Artifacts, is_signed_anew, sign
from app.models.tables import CORRUPT, READY, Artifact, Version

YOUNG = timedelta(hours=1)
_CLEARING_SECONDS = 10.0
_ENOUGH_SECONDS = 3600.0
_BATCH = 200
_ALL = 1_000_000
_ORPHAN = "orphan"
log = structlog.get_logger("models")


class Collector:
    """Finds and mends what crashes, outages and hands have left out of order."""

    def __init__(
        self, changes: Changes, ring: KeyRing, store: ArtifactStore, artifacts: Artifacts
    ) -> None:
        self._database = changes.database
        self._ring = ring
        self._store = store
        self._artifacts = artifacts

    def plan(self, *, deep: bool = False) -> list[Finding]:
        """What ``run`` would do; changes nothing. ``deep`` reads the bytes of all artifacts."""
        return list(self._examine(deep=deep, mend=False))

    def run(self, *, deep: bool = False) -> list[Finding]:
        """Put in order what can be put in order. Raises Unavailable when the store is away."""
        return list(self._examine(deep=deep, mend=True))

    def clear(self, seconds: float = _CLEARING_SECONDS) -> int:
        """Remove bytes whose rows are gone; how many things. What isn't done in time, or fails,
        is left for the next time."""
        until, cleared = time.monotonic() + seconds, 0
        with suppress(ServiceError):
            while time.monotonic() < until and (batch := self._leftovers(_BATCH)):
                removed = list(self._delete_bytes(batch, until))
                with self._database.write() as session:
                    session.execute(delete(Artifact).where(Artifact.id.in_(removed)))
                cleared += len(removed)
                if len(removed) < len(batch):
                    break
        return cleared

    def _leftovers(self, most: int) -> list[Artifact]:
        query = select(Artifact).where(Artifact.version_id.is_(None)).order_by(Artifact.id)
        with self._database.read() as session:
            return list(session.scalars(query.limit(most)))

    def _delete_bytes(self, batch: list[Artifact], until: float) -> Iterator[str]:
        for artifact in batch:
            if time.monotonic() >= until:
                return
            try:
                self._store.delete(artifact.key)
            except ServiceError as error:
                log.warning("artifact_not_cleared", key=artifact.key, error=error.detail)
                return
            yield artifact.id

    def _examine(self, *, deep: bool, mend: bool) -> Iterator[Finding]:
        sizes = {
            item.key: item for item in self._store.list() if item.key.split("/")[1:2] == ["models"]
        }
        garbage = [
            Finding("leftover", artifact.key, f"{artifact.bytes} bytes to clear away", mended=False)
            for artifact in self._leftovers(_ALL)
        ]
        garbage += self._orphans(sizes, mend=mend)
        if mend:
            self.clear(seconds=_ENOUGH_SECONDS)
            remaining = {artifact.key for artifact in self._leftovers(_ALL)}
            garbage = [replace(found, mended=found.subject not in remaining) for found in garbage]
        yield from garbage
        with_bytes = Version.state.in_((READY, CORRUPT))
        for version in all_rows(self._database, Version, with_bytes):
            yield from self._examine_version(version, sizes, deep=deep, mend=mend)

    def _orphans(self, listed: dict[str, Listed], *, mend: bool) -> Iterator[Finding]:
        before = utc_now() - YOUNG
        old = sorted(item.key for item in listed.values() if item.modified_at <= before)
        for start in range(0, len(old), _BATCH):
            keys = old[start : start + _BATCH]
            with self._database.read() as session:
                known = set(session.scalars(select(Artifact.key).where(Artifact.key.in_(keys))))
            for key in sorted(set(keys) - known):
                if not mend or self._claim(listed[key]):
                    detail = f"{listed[key].bytes} bytes of no version"
                    yield Finding(_ORPHAN, key, detail, mended=False)

    def _claim(self, item: Listed) -> bool:
        """Make sure that nobody can register these bytes any more; False if somebody has."""
        try:
            with self._database.write() as session:
                session.add(
                    Artifact(
                        project=item.key.split("/")[0],
                        format=_ORPHAN,
                        key=item.key,
                        digest="",
                        bytes=item.bytes,
                    )
                )
        except IntegrityError:
            return False
        return True

    def _examine_version(
        self, version: Version, sizes: dict[str, Listed], *, deep: bool, mend: bool
    ) -> Iterator[Finding]:
        try:
            fault = self._fault_of(version, sizes, deep=deep)
        except SecretRetired as error:
            yield Finding("secret_retired", version.subject, error.detail, mended=False)
            return
        except ArtifactCorrupt as error:
            fault = error
        call = Call(version.project, "collector", frozenset(), f"collection-{new_id()}")
        # Deleted meanwhile: nothing is out of order.
        with suppress(NotFound):
            if fault is not None:
                if mend:
                    self._artifacts.mark_corrupt(call, version, fault)
                yield Finding("corrupt", version.subject, fault.detail, mended=False)
            elif version.state == CORRUPT:
                if mend:
                    self._artifacts.restore(call, version)
                yield Finding("restored", version.subject, "Its bytes are right again", mend)
            yield from self._examine_signatures(version, mend=mend)

    def _fault_of(
        self, version: Version, sizes: dict[str, Listed], *, deep: bool
    ) -> ArtifactCorrupt | None:
        """What is wrong with its bytes, by the listing or, where that looks wrong, by reading."""
        looks_right = all(
            artifact.key in sizes and sizes[artifact.key].bytes == artifact.bytes
            for artifact in version.artifacts
        )
        read = deep or not looks_right or version.state == CORRUPT
        return self._artifacts.fault_of(version, read=read)

    def _examine_signatures(self, version: Version, *, mend: bool) -> Iterator[Finding]:
        old = [
            artifact
            for artifact in version.artifacts
            if not is_signed_anew(self._ring, version, artifact)
        ]
        if old and self._artifacts.fault_of(version, read=False) is None:
            if mend:
                self._sign_anew(version, old)
            yield Finding("old_signature", version.subject, "Signed with an earlier secret", mend)

    def _sign_anew(self, version: Version, artifacts: list[Artifact]) -> None:
        before = {artifact.id: artifact.mac for artifact in artifacts}
        sign(self._ring, version, artifacts)
        with self._database.write() as session:
            for artifact in artifacts:
                session.execute(
                    update(Artifact)
                    .where(Artifact.id == artifact.id, Artifact.mac == before[artifact.id])
                    .values(mac=artifact.mac)
                )


def stored_in(database: Database) -> Iterator[Stored]:
    """All that the versions of a database name in the store."""
    columns = (Artifact.key, Artifact.digest, Artifact.bytes)
    with database.read() as session:
        rows = session.execute(select(*columns).where(Artifact.version_id.is_not(None)))
        yield from (Stored(*row) for row in rows)
