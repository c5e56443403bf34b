"""What keeps the trouble of a peer from becoming ours.

Places, so that a peer which hangs holds a few threads and not all. A breaker, so that one which is
away is not waited for by everybody: after several failures in a row all are refused at once, and
one a pause tries. A budget of repeats: a tenth of the calls may be repeated in the long run, so
that repeats don't hold down a peer which is just coming back.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from app.kernel.breaker import OPEN, Breaker
from app.kernel.errors import Unavailable
from app.kernel.slots import Slots

MOST_REPEATS: Final = 2
_STRIKES, _WINDOW_SECONDS = 5, 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 4.0
_REPEATS_A_CALL, _MOST_SAVED = 0.1, 10.0
_WAIT_FOR_PLACE = 0.25
_SHORTEST_NAP, _LONGEST_NAP = 0.05, 0.2
log = structlog.get_logger("peers")


class PeerFailed(Unavailable):
    """The peer didn't answer; ``unsent``: it can't even have got the request."""

    def __init__(self, detail: str, *, unsent: bool = False, hung: bool = False) -> None:
        super().__init__(detail, retry_after=1)
        self.unsent = unsent
        self.hung = hung


class PeerMeters:
    """Counts of calls between services."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "modelyard_peer_calls_total",
            "Calls of another service, by what came of them.",
            ("peer", "outcome"),
            registry=registry,
        )
        self.open = Gauge(
            "modelyard_peer_open",
            "1 while a service is not called because it has failed several times.",
            ("peer",),
            registry=registry,
        )


class PeerGuard:
    """Places, breaker and budget of one peer; thread-safe."""

    def __init__(
        self,
        name: str,
        places: int,
        meters: PeerMeters,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._places = Slots(places, f"calls of the service {name}")
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(_STRIKES, _WINDOW_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE)
        self._saved = _MOST_SAVED
        self._calls = meters.calls
        meters.open.labels(name).set_function(self._is_open)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """One try: PeerFailed in the block is a strike; another error says nothing of the peer.

        Raises Unavailable at once where the peer is left alone, soon where no place is free.
        """
        self._admit()
        outcome = "refused"
        try:
            with self._places.hold(_WAIT_FOR_PLACE):
                outcome = "undecided"
                yield
                outcome = "answered"
        except PeerFailed:
            outcome = "failed"
            raise
        finally:
            self._conclude(outcome)

    def _admit(self) -> None:
        with self._lock:
            now = self._clock()
            if self._breaker.admits(now):
                return
            left = self._breaker.left(now)
        self._calls.labels(self._name, "refused").inc()
        raise Unavailable(
            f"The service {self._name} has not answered for a while",
            retry_after=max(1, math.ceil(left)),
        )

    def _conclude(self, outcome: str) -> None:
        pause = 0.0
        with self._lock:
            if outcome == "failed":
                pause = self._breaker.struck(self._clock())
            elif outcome == "answered":
                self._breaker.well()
                self._breaker.strikes.clear()
                self._saved = min(self._saved + _REPEATS_A_CALL, _MOST_SAVED)
            else:
                self._breaker.undecided()
        self._calls.labels(self._name, outcome).inc()
        if pause:
            log.warning("peer_left_alone", peer=self._name, seconds=pause)

    def may_repeat(self) -> bool:
        """Whether the budget allows a repeat, which is then taken from it."""
        with self._lock:
            if self._saved < 1 or self._breaker.state(self._clock()) == OPEN:
                return False
            self._saved -= 1
            return True

    def _is_open(self) -> float:
        with self._lock:
            return float(self._breaker.state(self._clock()) == OPEN)


def nap(repeats: int) -> float:
    """Seconds to wait before the next repeat: longer each time, and not the same for all."""
    return random.uniform(_SHORTEST_NAP, _LONGEST_NAP) * (1 + repeats)  # noqa: S311
