"""Reading versions: as resources, row by row, and whole."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import defer

from app.datasets.lookup import (
    QUEUED,
    RUNNING,
    find_dataset,
    find_version,
    stored_rejects,
    stored_table,
)
from app.datasets.ports import Ingest, LocalFile, Rows
from app.datasets.tables import Version
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import CHUNK, Stored
from app.kernel.auth import Call
from app.kernel.errors import NotFound, Unavailable
from app.kernel.http.pagination import Listing, Page
from app.kernel.http.sendable import Sendable, sendable
from app.kernel.signing import KeyRing
from app.kernel.sql import Database

_LOOK_SECONDS = 0.2
_TRIES = 3

VERSIONS = Listing(
    "DatasetVersions",
    {
        "version": Version.number,
        "state": Version.state,
        "source_digest": Version.source_digest,
        "created_at": Version.created_at,
    },
    order=("version", "created_at"),
    identity=Version.id,
    default_order="-version",
)


@dataclass(frozen=True)
class VersionEvent:
    """One thing that happened to a version, numbered from 1."""

    seq: int
    time: datetime
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class VersionRows:
    """Some rows of a version, and where the next ones begin."""

    dataset: str
    version: int
    rows: int
    offset: int
    columns: list[str]
    items: list[dict[str, Any]]

    @property
    def next_offset(self) -> int | None:
        """Where to go on; None at the end."""
        end = self.offset + len(self.items)
        return end if end < self.rows else None


class Versions:
    """What can be read of versions."""

    def __init__(
        self, database: Database, ring: KeyRing, store: ArtifactStore, ingest: Ingest
    ) -> None:
        self._database = database
        self._ring = ring
        self._store = store
        self._ingest = ingest

    def list(self, call: Call, dataset: str, arguments: Mapping[str, Any]) -> Page[Version]:
        """The versions of a dataset, without their profiles; raises NotFound."""
        with self._database.read() as session:
            found = find_dataset(session, call, dataset)
            query = (
                select(Version)
                .where(Version.dataset_id == found.id)
                .options(defer(Version.columns, raiseload=True))
            )
            return VERSIONS.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, dataset: str, number: int) -> Version:
        """A version; raises NotFound."""
        with self._database.read() as session:
            return find_version(session, call, dataset, number)

    def wait(
        self,
        call: Call,
        dataset: str,
        number: int,
        *,
        known: Callable[[str], bool] | None,
        seconds: float,
    ) -> Version:
        """A version when it has ended, or else at its next change, but within ``seconds``.

        ``known`` tells whether the caller has seen an ETag: one that it hasn't is a change. No
        database session is held meanwhile.
        """
        until = time.monotonic() + call.patience(seconds)
        version = self.get(call, dataset, number)
        seen = version.etag if known is None or known(version.etag) else ""
        while not version.ended and version.etag == seen and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            version = self.get(call, dataset, number)
        return version

    def events(self, call: Call, dataset: str, number: int, after: int) -> Sequence[VersionEvent]:
        """What happened to a version after the event of that number; none of one that is gone."""
        try:
            version = self.get(call, dataset, number)
        except NotFound:
            return []
        return [event for event in _events(version) if event.seq > after]

    def rows(
        self,
        call: Call,
        dataset: str,
        number: int,
        *,
        offset: int,
        limit: int,
        columns: Sequence[str] | None,
    ) -> VersionRows:
        """Rows in their order: ``limit`` at most; raises NotFound, Conflict, Invalid."""
        version = self.get(call, dataset, number)
        stored = stored_table(version)
        found = self._ingest.rows(
            stored, offset=offset, limit=limit, columns=columns, deadline=call.deadline
        )
        return _page(version, version.rows or 0, offset, found)

    def rejects(
        self, call: Call, dataset: str, number: int, *, offset: int, limit: int
    ) -> VersionRows:
        """The rows that were left out, and why; raises NotFound, Conflict."""
        version = self.get(call, dataset, number)
        stored_table(version)
        stored = stored_rejects(version)
        if stored is None:
            return _page(version, 0, offset, Rows([], []))
        found = self._ingest.rejects(stored, offset=offset, limit=limit, deadline=call.deadline)
        return _page(version, version.rejected or 0, offset, found)

    def table(self, call: Call, dataset: str, number: int) -> tuple[Version, Stored]:
        """A version and where its Parquet file lies; raises NotFound, Conflict."""
        version = self.get(call, dataset, number)
        return version, stored_table(version)

    def parquet(self, stored: Stored, filename: str) -> Sendable:
        """A version's Parquet file; raises ArtifactCorrupt, at the latest before its last bytes."""
        return sendable(self._store, stored, filename)

    def text(self, call: Call, stored: Stored, format_: str, *, spreadsheet: bool) -> "OpenFile":
        """A version as ``csv`` or ``ndjson``, ready to be read."""
        for _ in range(_TRIES):
            found = self._ingest.export(
                stored, format_, spreadsheet=spreadsheet, deadline=call.deadline
            )
            # It may have given way to others since.
            with suppress(FileNotFoundError):
                return OpenFile(found)
        raise Unavailable("Too many large tables are asked for at once", retry_after=5)


class OpenFile:
    """A file that can be read to its end even if it is deleted meanwhile; close it."""

    def __init__(self, found: LocalFile) -> None:
        self._handle = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW)
        self.bytes, self.digest = found.bytes, found.digest

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from one offset up to, not including, another."""
        while start < end:
            piece = os.pread(self._handle, min(CHUNK, end - start), start)
            if not piece:
                return
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def _events(version: Version) -> Iterator[VersionEvent]:
    """By the times that the row keeps: an attempt that was lost is only counted."""
    yield VersionEvent(1, version.created_at, QUEUED, {})
    if version.started_at is not None:
        yield VersionEvent(2, version.started_at, RUNNING, {"attempt": version.attempt})
    if version.finished_at is not None:
        told = {"rows": version.rows} if version.error is None else {"error": version.error}
        yield VersionEvent(3, version.finished_at, version.state, told)


def _page(version: Version, total: int, offset: int, found: Rows) -> VersionRows:
    return VersionRows(
        dataset=version.dataset,
        version=version.number,
        rows=total,
        offset=offset,
        columns=found.columns,
        items=found.items,
    )
