"""Rows and the labels that come later, joined by id: what a learner learns from a stream.

A record holds the features, or the label, or both. One that holds both, or whose other half has
come before, completes an example; halves wait for theirs, as many as the bound allows: then the
oldest is dropped, and counted. Halves meet within one partition only: give them the same key.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


class Unreadable(ValueError):
    """A record that tells neither a row nor a label."""


@dataclass(frozen=True)
class Reading:
    """Where a record's value tells its features, its label, and the id that joins them."""

    features: tuple[str, ...]
    target: str
    id: str | None = None

    def of(self, value: Any, record_id: str | None = None) -> "Half":
        """What a record tells; raises Unreadable when it is nothing of the kind.

        Without a field for the id, the record's own id joins.
        """
        if not isinstance(value, Mapping):
            raise Unreadable("The record's value isn't a JSON object")
        told = record_id if self.id is None else value.get(self.id)
        found = any(name in value for name in self.features)
        row = (
            {name: plain_value(name, value.get(name)) for name in self.features} if found else None
        )
        target = value.get(self.target)
        if row is None and target is None:
            raise Unreadable(f"The record holds neither a feature nor {self.target}")
        if told is None and (row is None or target is None):
            raise Unreadable("The record holds one half of an example, and no id to join it by")
        if not isinstance(told, str | int | None) or isinstance(told, bool):
            raise Unreadable("The record's id is neither text nor a whole number")
        return Half(None if told is None else str(told), row, target)


def plain_value(name: str, value: Any) -> Any:
    """A feature's value as it is; raises Unreadable for what no learner takes."""
    if value is None or isinstance(value, str):
        return value
    # As large as a float can be squared.
    if isinstance(value, int | float) and -1e150 < value < 1e150:
        return value
    raise Unreadable(f"The value of {name} is neither text, nor a boolean, nor a finite number")


@dataclass(frozen=True)
class Half:
    """What one record told: the features, the label (None: not yet known), or both."""

    id: str | None
    row: Row | None
    target: Any


@dataclass(frozen=True)
class Example:
    """A row with its label; ``kept``: what was noted when the row came, if it came first."""

    row: Row
    target: Any
    kept: Any = None


class Halves:
    """What waits for its other half, the oldest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.dropped = 0
        self._rows: OrderedDict[str, tuple[Row, Any]] = OrderedDict()
        self._targets: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows) + len(self._targets)

    def join(self, half: Half, kept: Any = None) -> Example | None:
        """The example that a record completes; ``kept`` waits with its row."""
        if half.row is not None and half.target is not None:
            return Example(half.row, half.target, kept)
        name = half.id or ""
        if half.row is not None:
            if name in self._targets:
                return Example(half.row, self._targets.pop(name))
            self._rows[name] = (half.row, kept)
            self._rows.move_to_end(name)
            self._bounded(self._rows)
            return None
        if name in self._rows:
            row, noted = self._rows.pop(name)
            return Example(row, half.target, noted)
        self._targets[name] = half.target
        self._targets.move_to_end(name)
        self._bounded(self._targets)
        return None

    def _bounded(self, waiting: "OrderedDict[str, Any]") -> None:
        while len(waiting) > self.most:
            waiting.popitem(last=False)
            self.dropped += 1

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON knows it."""
        return {
            "most": self.most,
            "dropped": self.dropped,
            "rows": [[name, row, kept] for name, (row, kept) in self._rows.items()],
            "targets": [[name, target] for name, target in self._targets.items()],
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Halves":
        """The halves that ``as_dict`` told."""
        found = cls(told["most"])
        found.dropped = told["dropped"]
        found._rows.update((name, (row, kept)) for name, row, kept in told["rows"])
        found._targets.update((name, target) for name, target in told["targets"])
        return found
