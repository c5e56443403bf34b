"""What a kind of processor is made of, and what its handlers answer.

A kind reads its own part of a processor's configuration and opens a handler for each partition that
this process has been given. The handler sees the records in their order. What it makes of them, and
what it has folded, is kept in one transaction with the offset that comes next; where that fails, or
the handler raises, it is closed, and another one is opened on what was kept before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.log.seam import NewRecord, Record
from app.streams.processors.values import Refused


@dataclass(frozen=True)
class Share:
    """One partition of one processor's input, as a handler sees it.

    ``generation`` is another one after each reset: what is made anew is no duplicate. ``stopping``
    tells whether the partition is to be handed back soon.
    """

    processor: str
    name: str
    project: str
    topic: str
    partition: int
    generation: int
    config: Mapping[str, Any]
    stopping: Callable[[], bool] = lambda: False

    @property
    def call(self) -> Call:
        """In whose name peers are asked."""
        return Call(
            self.project, f"processor:{self.name}"[:40], frozenset(), f"processor-{self.processor}"
        )

    def place(self, record: Record) -> dict[str, Any]:
        """Where a record came from, as outputs tell it."""
        return {"topic": self.topic, "partition": record.partition, "offset": record.offset}


@dataclass(frozen=True)
class Failure:
    """A record with which something went wrong that may go well at the next try."""

    record: Record
    code: str
    detail: str


@dataclass(frozen=True)
class Patience:
    """Not to be asked again before so many records wait, or so many seconds have passed."""

    records: int
    seconds: float


@dataclass
class Outcome:
    """What became of records.

    ``taken`` counts those that are done with, from the front: what was refused or was late
    included. ``failure`` is about the one after them. ``refused`` go to the dead letters;
    ``late`` counts records that came too late for all their windows and are let go.
    """

    taken: int = 0
    outputs: list[NewRecord] = field(default_factory=list)
    refused: list[tuple[Record, Refused]] = field(default_factory=list)
    late: int = 0
    failure: Failure | None = None
    patience: Patience | None = None


class Handler(Protocol):
    """What handles the records of one partition."""

    def handle(self, records: Sequence[Record]) -> Outcome:
        """Handle records, or the first of them; never inside a transaction.

        Raises ServiceError for trouble that is no record's fault: the records wait until it is
        over. Whatever else it raises counts as a failure of a record.
        """

    def keep(self, session: Session) -> None:
        """Write what has been folded, in the transaction in which the records are passed."""

    def close(self) -> None:
        """Let go of what is held outside of the database."""


class Kind(Protocol):
    """A kind of processor; ``most`` records at most are handed to its handlers at once."""

    most: int

    def open(self, share: Share) -> Handler:
        """A handler on what was kept of a partition. Raises ServiceError."""


class Stateless:
    """Base of handlers that keep nothing."""

    def keep(self, session: Session) -> None:
        """Nothing is folded."""

    def close(self) -> None:
        """Nothing is held."""
