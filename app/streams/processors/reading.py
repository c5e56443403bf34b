"""What a process that reads topics runs, whatever it does with the records.

A ``Work`` is a group of readers of one topic; the process takes part in it as one member and is
given partitions of it. Of each it opens a ``Reader``, whose steps run in a pool of threads, one at
a time for each partition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.streams.groups import Held


@dataclass(frozen=True)
class Lease:
    """A partition that this process reads, by its membership in a group."""

    group_id: str
    member_id: str
    held: Held
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Rest:
    """When a reader wants its next step: after so many seconds, or with so many records waiting.

    ``lost``: never, for the partition is somebody else's.
    """

    seconds: float = 0.0
    records: int = 0
    lost: bool = False


AT_ONCE: Final = Rest()
UNTIL_NEWS: Final = Rest(seconds=float("inf"), records=1)
LOST: Final = Rest(seconds=float("inf"), lost=True)


class Reader(Protocol):
    """What reads one partition and does something with its records."""

    @property
    def offset(self) -> int:
        """The offset that it reads next."""

    def step(self) -> Rest:
        """Do some of what there is to do, for about a second; raises nothing."""

    def close(self) -> None:
        """Let go of what is held outside of the database."""


class Work(Protocol):
    """A group whose partitions are to be read; with another ``revision`` it is opened anew."""

    @property
    def group_id(self) -> str:
        """The group's id."""

    @property
    def topic_id(self) -> str:
        """What the record log calls the topic."""

    @property
    def revision(self) -> str:
        """Changes with what the readers are to do."""

    def open(self, lease: Lease) -> Reader:
        """A reader of one of its partitions; asks nobody."""


Source = Callable[[], Sequence[Work]]
"""Tells all that is to be read right now."""
