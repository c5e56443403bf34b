"""Which workers have died, found out by watching: nobody else's clock is trusted.

A worker that lives raises its jobs' ``beats`` every third of a lease. Whoever sees a job's beats
stand still for a whole lease, by a clock that only goes forward, may take the job over. So neither
clocks that differ between hosts nor a clock that is set matter. A watcher that hasn't looked for
a while (its process was stopped, the database was away) can't tell: it begins anew.
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
        self._since: dict[Beat, float] = {}

    def look(self, beats: Iterable[Beat]) -> list[Beat]:
        """Take in what all running jobs show now; those that stood still for a lease."""
        now = self._monotonic()
        if now - self._last_look > self._lease / 2:
            self._since = {}
        self._last_look = now
        self._since = {beat: self._since.get(beat, now) for beat in beats}
        return [beat for beat, since in self._since.items() if now - since > self._lease]
