"""What processors need from other services."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.kernel.auth import Call


class Predictions(Protocol):
    """The predictions service as processors see it."""

    def predict(
        self, call: Call, model: str, inputs: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """What a model says of inputs: ``model``, ``version``, ``engine`` and ``outputs``.

        ``model`` is a reference: ``penguins``, ``penguins@champion``, ``penguins/3``. Raises
        Invalid with pointers ``/inputs/3/..``, NotFound, Unavailable.
        """


@dataclass(frozen=True)
class Part:
    """The records of a partition from ``first`` up to, not including, ``next``.

    ``source`` is whose archive they go to: what it has of a partition never overlaps.
    """

    source: str
    topic: str
    processor: str
    partition: int
    first: int
    next: int


class Archives(Protocol):
    """The datasets service as processors see it."""

    def keep(self, call: Call, dataset: str, part: Part, rows: Sequence[Mapping[str, Any]]) -> int:
        """Make rows the next version of a dataset, which is made where it isn't there.

        The offset that comes after the records of that version: where the first of them are in
        one already, nothing is made, and it is that one's. Raises Invalid, TooLarge for rows that
        are no table, with pointers ``/rows/3/..`` counted from 1; Conflict, Unavailable.
        """
