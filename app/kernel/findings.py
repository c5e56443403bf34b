"""What an examination finds out of order, in a service's store and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Finding:
    """One thing out of order; ``subject`` is a resource's path or a key of the store.

    Codes: ``orphan``, ``leftover`` (bytes to clear away), ``corrupt``, ``restored``,
    ``old_signature``, ``secret_retired``. ``mended`` tells whether it is in order now.
    """

    code: str
    subject: str
    detail: str
    mended: bool


class Collector(Protocol):
    """Reconciles a service's part of the store with its tables."""

    def plan(self, *, deep: bool = False) -> Sequence[Finding]:
        """What ``run`` would do; changes nothing. ``deep`` reads all bytes."""

    def run(self, *, deep: bool = False) -> Sequence[Finding]:
        """Put in order what can be put in order. Raises Unavailable when the store is away."""
