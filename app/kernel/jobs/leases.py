"""Which workers have died, found out by watching: nobody else's clock is trusted.

A worker that lives raises its jobs' ``beats`` every third of a lease. Whoever sees a job's beats
stand still for a whole lease, by a clock that only goes forward, may take the job over. So neither
clocks that differ between hosts nor a clock that is set matter. While a watcher didn't look (its
process was stopped, the machine slept, the database was away) the others may have been stopped
just as well: of a long gap between two looks only a quarter of a lease counts.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Beat(NamedTuple):
    """One job's sign of life; taking over compares all of it."""

    job_id: str
    attempt: int
    beats: int


class LeaseWatch:
    """One worker's view of the jobs that others run."""

    def __init__(self, lease: float, monotonic: Callable[[], float]) -> None:
        self._lease = lease
        self._monotonic = monotonic
        self._last_look = monotonic()
        self._watched = 0.0
        self._since: dict[Beat, float] = {}

    def look(self, beats: Iterable[Beat]) -> list[Beat]:
        """Take in what all running jobs show now; those that stood still for a lease."""
        now = self._monotonic()
        self._watched += min(now - self._last_look, self._lease / 4)
        self._last_look = now
        self._since = {beat: self._since.get(beat, self._watched) for beat in beats}
        return [beat for beat, since in self._since.items() if self._watched - since > self._lease]
