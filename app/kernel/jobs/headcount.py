"""How many workers a host should run: more at once when jobs wait, fewer one by one when they idle.

Pure: told the time and what there is to do, it says a number. A worker too many is let go only
after ``idle`` seconds in which one fewer would have done all the time; whatever was needed within
that time is kept, so a load that comes and goes doesn't make workers come and go.
"""

from collections.abc import Iterable
from typing import NamedTuple

_FRESH_SECONDS = 2.0


class Load(NamedTuple):
    """What one worker sees: jobs of any host that could start, and those in its own hands."""

    waiting: int
    busy: int


class Heard(NamedTuple):
    """A worker's last word, and when it came."""

    load: Load
    at: float


def demand(heard: Iterable[Heard], now: float) -> int | None:
    """How many slots would be busy if there were enough; None when no worker tells.

    All look at the same queues, each a moment apart: a job that one of them has claimed since must
    not count twice, so the smallest number of waiting jobs holds.
    """
    told = list(heard)
    fresh = [one.load.waiting for one in told if now - one.at <= _FRESH_SECONDS]
    return min(fresh) + sum(one.load.busy for one in told) if fresh else None


class Headcount:
    """The number of workers wanted, between ``least`` and ``most``."""

    def __init__(self, least: int, most: int, *, slots: int, idle: float) -> None:
        self.wanted = least
        self._least, self._most = least, most
        self._slots, self._idle = slots, idle
        self._spare_since: float | None = None

    def decide(self, now: float, demand: int | None, leaving: int = 0) -> int:
        """The number wanted from now on. ``demand``: slots that would be busy; ``leaving``: workers
        that were let go and still finish what they hold, which count as some of the most.
        """
        needed = self.wanted if demand is None else -(-demand // self._slots)
        if needed > self.wanted:
            self.wanted = max(self.wanted, min(needed, self._most - leaving))
        if demand is None or needed >= self.wanted or self.wanted == self._least:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now
        elif now - self._spare_since >= self._idle:
            self.wanted -= 1
            self._spare_since = now
        return self.wanted
