"""What training needs from others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.kernel.auth import Call


@dataclass(frozen=True)
class HeldDataset:
    """A dataset version that can't be deleted for a while; ``columns`` are its profile, ``origin``
    the records of a topic that it was made of."""

    dataset: str
    version: int
    digest: str
    rows: int
    columns: Sequence[Mapping[str, Any]]
    storage: Mapping[str, Any]
    origin: Mapping[str, Any] | None = None


class Datasets(Protocol):
    """The datasets service as training sees it."""

    def hold(
        self, call: Call, dataset: str, version: int | None, *, holder: str, seconds: int
    ) -> HeldDataset:
        """Keep a version (None: the newest) from deletion.

        Raises NotFound, or Conflict when it is not ready or being deleted.
        """

    def release(self, call: Call, held: HeldDataset, *, holder: str) -> None:
        """Let go of it: the holder's own row is there by now, or never will be."""


class Models(Protocol):
    """The models service as training sees it."""

    def register(self, call: Call, model: str, version: Mapping[str, Any]) -> int:
        """Register a run's model and give its version number; the same again for the same run."""

    def version_of(self, call: Call, model: str, run: str) -> int | None:
        """The version that a run has registered; None: it hasn't."""
