"""What model views need from other services."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.kernel.auth import Call


class Training(Protocol):
    """Datasets, training runs and models as views see them."""

    def keep_rows(self, call: Call, dataset: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Make rows the next version of a dataset, which is made where it isn't there; its number.

        Raises Invalid for rows that are no table, Unavailable.
        """

    def train(self, call: Call, wanted: Mapping[str, Any]) -> str:
        """Ask for a training run; its id. Raises Invalid, TooManyRequests, Unavailable."""

    def run(self, call: Call, run: str) -> Mapping[str, Any]:
        """A run: ``state``, ``error`` and, once it has succeeded, ``model_version``."""

    def cancel(self, call: Call, run: str) -> None:
        """Stop a run, unless it has ended or can't be told now."""

    def version(self, call: Call, model: str, version: int) -> Mapping[str, Any]:
        """A version with its ``signature``; raises NotFound."""

    def tag(self, call: Call, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Give a version its tags; raises NotFound."""
