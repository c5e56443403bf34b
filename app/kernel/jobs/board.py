"""Which kind of job gets the next free slot of a worker."""

import threading
from collections import Counter
from collections.abc import Sequence


class SlotBoard:
    """A budget of slots over several databases, fair over the kinds of jobs.

    Each database's thread offers the kinds it could claim. The turn is that of the kind which has
    the fewest slots, and among equals of the one that was served longest ago; only the database
    that offers it may take the slot. An offer is withdrawn before a database is asked anything, so
    one that hangs holds up nobody.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._taken: Counter[str] = Counter()
        self._offers: dict[str, list[str]] = {}
        self._served: dict[tuple[str, str], int] = {}
        self._turn = 0
        self._changed = threading.Condition()

    def offer(self, database: str, kinds: Sequence[str]) -> None:
        """Say what a database has; replaces its last offer."""
        with self._changed:
            self._offers[database] = list(kinds)

    def take(self, database: str) -> str | None:
        """Take a slot for one of the database's kinds, if its turn has come."""
        with self._changed:
            turns = [
                (self._taken[kind], self._served.get((name, kind), 0), name, kind)
                for name, kinds in self._offers.items()
                for kind in kinds
            ]
            if not turns or self._taken.total() >= self._slots:
                return None
            _, _, name, kind = min(turns)
            if name != database:
                return None
            self._offers[name].remove(kind)
            self._turn += 1
            self._served[name, kind] = self._turn
            self._taken[kind] += 1
            return kind

    def exchange(self, kind: str, instead: str | None) -> None:
        """The slot is another kind's after all, or (``None``) it is free again."""
        with self._changed:
            self._taken[kind] -= 1
            if instead is not None:
                self._taken[instead] += 1
            else:
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until a slot becomes free, at most so long."""
        with self._changed:
            self._changed.wait(seconds)
