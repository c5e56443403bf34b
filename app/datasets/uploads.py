"""An upload that has arrived, and where uploads are taken in."""

from dataclasses import dataclass
from pathlib import Path

from app.datasets.ingest_request import IngestLimits, IngestRequest
from app.kernel.slots import Slots


@dataclass(frozen=True)
class Intake:
    """Where uploads are taken in: so many at once, of so many bytes, below the folder ``work``.

    The folder lies on a disk of this host, where the ingest process sees it, too.
    """

    slots: Slots
    work: Path
    most: int
    limits: IngestLimits


@dataclass(frozen=True)
class Upload:
    """A whole file of a client's, in a work folder of its own, and how it is to be read.

    ``filename`` is what the client calls it: it is shown, and never used as a path.
    """

    folder: Path
    bytes: int
    digest: str
    filename: str | None
    request: IngestRequest

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.request.source
