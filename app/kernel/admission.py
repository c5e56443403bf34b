"""Places for short work that costs: so many at once, so many waiting in line, not for long.

Whoever comes when the line is full is refused at once, told after how long the line before it will
be done, reckoned from how long the work has taken of late. Work that waits for a second is worth
less than a refusal in a millisecond: its client may have left, and it makes all others late.

The line is for bursts, and for callers who ask again as soon as they are answered. Where more are
refused than let in, a line answers no more requests, only each later: then only those may wait
whose place, as far as can be foretold, will be free in four tenths of what the work takes. They
keep the places busy, and nobody waits for much longer than that.

Between the first look and the place lies the reading of the request. Those who are being read are
counted with the line, or each place that is given back would let in all who come meanwhile, to
refuse them when they have cost most of what they cost. A request that takes long to be read isn't
counted any more: clients that stall must not close the door to others.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.kernel.errors import DeadlineExceeded, Unavailable
from app.kernel.meters import Histogram

TICKET: Final = "modelyard.ticket"
_WEIGHT: Final = 0.1
_LONGEST_PAUSE: Final = 30.0
_READING_SECONDS: Final = 0.2
_SHORT_WAIT: Final = 0.4
"""How long one may wait in an overload, in times of what the work takes.

More makes those who are let in later, less leaves the places empty for longer: at five times the
load for ``exp(-5 x)`` of the time between two requests, a fifth of the work.
"""
_MOST_REFUSED: Final = 0.5
_REFUSED_WEIGHT: Final = 1 / 16
_CALM_TIMES: Final = 4
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class _Turn(threading.Event):
    """Set when the place is there, which is held ``since`` then."""

    since = 0.0


class Admission:
    """The places and the line before them; first come, first served."""

    def __init__(
        self,
        slots: int,
        waiters: int,
        longest_wait: float,
        registry: CollectorRegistry,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = self._free = slots
        self._waiters = waiters
        self._longest_wait = longest_wait
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._line: deque[_Turn] = deque()
        self._read: dict[object, float] = {}
        self._held: list[float] = []
        self._mean = self._refused = 0.0
        self._last_refused = -math.inf
        self._count(registry)

    def _count(self, registry: CollectorRegistry) -> None:
        self._shed = Counter(
            "modelyard_predictions_shed_total",
            "Predictions refused because too many were at work and waiting.",
            registry=registry,
        )
        waiting = Gauge(
            "modelyard_admission_waiting", "Predictions that wait in line.", registry=registry
        )
        waiting.set_function(lambda: len(self._line))
        self._seconds = Histogram(
            "modelyard_admission_seconds",
            "How long a prediction that was let in held its place.",
            (),
            registry,
            _BUCKETS,
        ).of()

    @property
    def free(self) -> int:
        """How many places are free."""
        return self._free

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def expect(self, request: object) -> bool:
        """Whether there is room for a request that is about to be read; if so, it is counted."""
        with self._lock:
            now = self._monotonic()
            while self._read and now - next(iter(self._read.values())) > _READING_SECONDS:
                del self._read[next(iter(self._read))]
            if not self._has_room(now):
                return False
            self._read[request] = now
        return True

    def forget(self, request: object) -> None:
        """A request that was expected comes no more."""
        with self._lock:
            self._read.pop(request, None)

    def _has_room(self, now: float) -> bool:
        before = len(self._read) + len(self._line) - self._free
        if before < 0:
            return True
        if before >= self._waiters:
            return False
        if not self._is_overloaded(now):
            return True
        # The places are given back in the order in which they were taken, or nearly so.
        return before < len(self._held) and (
            self._held[before] + self._mean - now <= _SHORT_WAIT * self._mean
        )

    def _is_overloaded(self, now: float) -> bool:
        """Whether more are refused than let in; not where nobody has been refused for a while.

        A free place says nothing: what is scarce may be the core on which requests are read, and
        then places are free now and then in the worst of overloads.
        """
        if now - self._last_refused > self._longest_wait + _CALM_TIMES * self._mean:
            self._refused = 0.0
        return self._refused > _MOST_REFUSED

    def enter(self, patience: float = math.inf, *, read: object = None) -> float:
        """Take a place, after a wait in line where there is none, for what has been ``read``.

        Returns since when it is held. Raises Unavailable past the line's length or the longest
        wait, DeadlineExceeded when the caller's own ``patience`` in seconds ends before that.
        """
        with self._lock:
            self._read.pop(read, None)
            self._refused -= self._refused * _REFUSED_WEIGHT
            if self._free:
                self._free -= 1
                return self._hold()
            if len(self._line) >= self._waiters:
                raise self.refusal()
            turn = _Turn()
            self._line.append(turn)
        turn.wait(max(0.0, min(self._longest_wait, patience)))
        with self._lock:
            # Set under the lock only: a place that came too late for the wait is still taken.
            if turn.is_set():
                return turn.since
            self._line.remove(turn)
        if patience <= self._longest_wait:
            raise DeadlineExceeded("The deadline passed while waiting for a place")
        raise self.refusal()

    def _hold(self) -> float:
        since = self._monotonic()
        self._held.append(since)
        return since

    def leave(self, since: float) -> None:
        """Give back a place that was held ``since``: to the first in line, if there is one."""
        with self._lock:
            seconds = self._monotonic() - since
            self._mean += (seconds - self._mean) * (_WEIGHT if self._mean else 1)
            self._held.remove(since)
            if self._line:
                turn = self._line.popleft()
                turn.since = self._hold()
                turn.set()
            else:
                self._free += 1
        self._seconds.add(seconds)

    def refusal(self) -> Unavailable:
        """Why nobody is let in, and when the line as it stands will be done; counts as shed."""
        self._shed.inc()
        self._refused += (1 - self._refused) * _REFUSED_WEIGHT
        self._last_refused = self._monotonic()
        pause = self._mean * (len(self._line) + 1) / self._slots
        return Unavailable(
            "Too many predictions at once", retry_after=min(max(pause, 1), _LONGEST_PAUSE)
        )


class Ticket:
    """One request's claim to a place: entered once at most, left in any case."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._since: float | None = None

    def announce(self) -> bool:
        """Whether there is room for it; see ``Admission.expect``."""
        return self._admission.expect(self)

    def enter(self, patience: float = math.inf) -> None:
        """Take the place; see ``Admission.enter``."""
        if self._since is None:
            self._since = self._admission.enter(patience, read=self)

    @contextmanager
    def lent(self, patience: Callable[[], float]) -> Iterator[None]:
        """Let others have the place while the block waits; then take one again, as ``enter`` does.

        A block that fails needs none any more.
        """
        if self._since is None:
            yield
            return
        self.leave()
        yield
        self.enter(patience())

    def leave(self) -> None:
        """Give the place back, if there is one to give."""
        if self._since is None:
            self._admission.forget(self)
        else:
            since, self._since = self._since, None
            self._admission.leave(since)
