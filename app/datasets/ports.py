"""What datasets need from others: the ingest process, and the services that may refer to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.datasets.uploads import Upload
from app.kernel.artifacts.stored import Stored
from app.kernel.auth import Call

Beat = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Converted:
    """What became of an upload: a Parquet file, its profile, and the rows left out."""

    parquet: Path
    digest: str
    rows: int
    columns: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    rejected: int
    rejects: Path | None


@dataclass(frozen=True)
class Rows:
    """Some rows of a version in their order; ``items`` map column names to JSON values."""

    columns: list[str]
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class LocalFile:
    """A file of this host. It may be gone at any time: open it at once, or ask again."""

    path: Path
    bytes: int
    digest: str


class Ingest(Protocol):
    """The process that reads tables. Every method may raise Unavailable.

    ``deadline`` is a moment of the monotonic clock; past it DeadlineExceeded is raised.
    """

    def convert(self, upload: Upload, beat: Beat, *, deadline: float | None = None) -> Converted:
        """Turn an upload into Parquet within its folder.

        ``beat`` is called with the progress, at least every few seconds; what it raises ends the
        conversion, and so does ``deadline``. Raises Invalid, TooLarge, StorageFull.
        """

    def rows(
        self,
        stored: Stored,
        *,
        offset: int,
        limit: int,
        columns: Sequence[str] | None,
        deadline: float | None = None,
    ) -> Rows:
        """Rows from an offset on: ``limit`` at most, fewer where they are large, none past the end.

        Raises Invalid for an unknown column.
        """

    def rejects(
        self, stored: Stored, *, offset: int, limit: int, deadline: float | None = None
    ) -> Rows:
        """The same of the rows that were put aside: ``row``, ``column``, ``reason``, ``raw``."""

    def export(
        self, stored: Stored, format_: str, *, spreadsheet: bool, deadline: float | None = None
    ) -> LocalFile:
        """A file with the whole table as ``csv`` or ``ndjson``, made once and kept for a while.

        ``spreadsheet`` keeps the texts of a CSV from being formulas.
        """


@dataclass(frozen=True)
class Reference:
    """A thing of another service that needs a dataset version to stay."""

    service: str
    subject: str
    state: str
    reason: str


class Referrer(Protocol):
    """Another service, as the one that may refer to our versions."""

    def references(self, call: Call, dataset: str, version: int | None) -> list[Reference]:
        """What refers to a version, or to any of the dataset; raises Unavailable."""
