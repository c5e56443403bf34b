"""The stored results of batches: handed out as they were stored, and reconciled with the rows.

Bytes below ``<project>/batches/`` are cleared away when they are older than an hour and neither a
row's contents, nor a recorded part, nor those of an attempt that is under way; parts of batches
that have ended, at once. A succeeded batch whose bytes are gone or changed says so in its
``error``; when they were put back, it no longer does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import select

from app.kernel.artifacts.store import ArtifactStore, check_bytes
from app.kernel.artifacts.stored import ArtifactCorrupt, Listed, Stored
from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import ServiceError
from app.kernel.findings import Finding
from app.kernel.http.sendable import Sendable, sendable
from app.kernel.long_work.lifecycle import SUCCEEDED
from app.kernel.rows import all_rows
from app.kernel.sql import Database, new_id, utc_now
from app.predictions.parts import FOLDER, BatchParts
from app.predictions.tables import BatchPrediction

YOUNG = timedelta(hours=1)
_BATCH = 200


def key_of(batch: BatchPrediction, suffix: str) -> str:
    """Where an attempt keeps its result; a later attempt never meets it there."""
    return f"{batch.project}/{FOLDER}/{batch.id}-{batch.attempt}{suffix}"


class BatchContents:
    """What can be done with the results of batches."""

    def __init__(self, changes: Changes, store: ArtifactStore) -> None:
        self._changes = changes
        self._database = changes.database
        self._store = store
        self.parts = BatchParts(changes.database, store)

    def download(self, call: Call, batch: BatchPrediction, format_: str) -> Sendable:
        """A succeeded batch's result; raises ArtifactCorrupt, which the batch then tells of."""
        stored = _stored(batch)[format_]

        def on_fault(fault: ArtifactCorrupt) -> None:
            self._mark(call, batch, fault)

        return sendable(self._store, stored, f"{batch.id}.{format_}", on_fault=on_fault)

    def clear(self, batch: BatchPrediction) -> None:
        """Remove the bytes of a batch that has no row any more; a later ``run`` finds the rest."""
        for stored in _stored(batch).values():
            with suppress(ServiceError):
                self._store.delete(stored.key)

    def plan(self, *, deep: bool = False) -> list[Finding]:
        """What ``run`` would do; changes nothing. ``deep`` reads the bytes of all contents."""
        return list(self._examine(deep=deep, mend=False))

    def run(self, *, deep: bool = False) -> list[Finding]:
        """Put in order what can be put in order. Raises Unavailable when the store is away."""
        return list(self._examine(deep=deep, mend=True))

    def _examine(self, *, deep: bool, mend: bool) -> Iterator[Finding]:
        for part in self.parts.of_ended():
            if mend:
                self.parts.clear(part.batch_id)
            yield Finding("orphan", part.key, f"{part.bytes} bytes of an ended batch", mended=mend)
        listed = {
            item.key: item for item in self._store.list() if item.key.split("/")[1:2] == [FOLDER]
        }
        before = utc_now() - YOUNG
        old = [item for item in listed.values() if item.modified_at <= before]
        for start in range(0, len(old), _BATCH):
            yield from self._orphans(old[start : start + _BATCH], mend=mend)
        succeeded = BatchPrediction.stored_state == SUCCEEDED
        for batch in all_rows(self._database, BatchPrediction, succeeded):
            yield from self._examine_contents(batch, listed, deep=deep, mend=mend)

    def _orphans(self, items: Sequence[Listed], *, mend: bool) -> Iterator[Finding]:
        owners = {item.key: _owner_of(item.key) for item in items}
        query = select(BatchPrediction).where(
            BatchPrediction.id.in_({batch_id for batch_id, _ in owners.values()})
        )
        with self._database.read() as session:
            batches = {batch.id: batch for batch in session.scalars(query)}
        recorded = self.parts.are_recorded([item.key for item in items])
        for item in items:
            batch_id, attempt = owners[item.key]
            if item.key in recorded or _is_needed(item.key, batches.get(batch_id), attempt):
                continue
            if mend:
                self._store.delete(item.key)
            yield Finding("orphan", item.key, f"{item.bytes} bytes of no batch", mended=mend)

    def _examine_contents(
        self,
        batch: BatchPrediction,
        listed: Mapping[str, Listed],
        *,
        deep: bool,
        mend: bool,
    ) -> Iterator[Finding]:
        call = Call(batch.project, "collector", frozenset(), f"collection-{new_id()}")
        fault = self._fault_of(batch, listed, deep=deep)
        if fault is not None:
            if mend:
                self._mark(call, batch, fault)
            yield Finding("corrupt", batch.subject, fault.detail, mended=False)
        elif batch.error is not None:
            if mend:
                self._mark(call, batch, None)
            yield Finding("restored", batch.subject, "Its bytes are right again", mended=mend)

    def _fault_of(
        self, batch: BatchPrediction, listed: Mapping[str, Listed], *, deep: bool
    ) -> ArtifactCorrupt | None:
        """What is wrong with its bytes, by the listing or, where that looks wrong, by reading."""
        try:
            for stored in _stored(batch).values():
                found = listed.get(stored.key)
                looks_right = found is not None and found.bytes == stored.bytes
                if deep or batch.error is not None or not looks_right:
                    check_bytes(self._store, stored)
        except ArtifactCorrupt as fault:
            return fault
        return None

    def _mark(self, call: Call, batch: BatchPrediction, fault: ArtifactCorrupt | None) -> None:
        """Have the batch tell, once, that its bytes are wrong or, without a fault, right again."""
        with self._changes.begin(call) as change:
            row = change.session.get(BatchPrediction, batch.id, with_for_update=True)
            if row is None or (row.error is None) == (fault is None):
                return
            row.error = (
                None
                if fault is None
                else {"code": fault.code, "detail": fault.detail, "retryable": False}
            )
            event = "batch.restored" if fault is None else "batch.corrupt"
            change.record(event, row.subject, {"model": row.model})


def stored_in(database: Database) -> Iterator[Stored]:
    """All that the batches of a database name in the store."""
    with database.read() as session:
        for batch in session.scalars(select(BatchPrediction)):
            yield from _stored(batch).values()


def _stored(batch: BatchPrediction) -> dict[str, Stored]:
    return {format_: Stored(**content) for format_, content in (batch.contents or {}).items()}


def _owner_of(key: str) -> tuple[str, int]:
    """The batch and its attempt that a key was made for."""
    name = key.rpartition("/")[2].partition(".")[0]
    batch_id, _, attempt = name.rpartition("-")
    return batch_id, int(attempt) if attempt.isdigit() else 0


def _is_needed(key: str, batch: BatchPrediction | None, attempt: int) -> bool:
    if batch is None:
        return False
    if not batch.ended and attempt >= batch.attempt:
        return True
    return any(stored.key == key for stored in _stored(batch).values())
