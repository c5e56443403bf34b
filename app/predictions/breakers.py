"""Which versions may be scored in company: those that kill the scorer are kept apart, then refused.

A version is trusted until a process that scored it alone has died of it: that is a strike. For a
while after a strike it is scored alone, so that it can harm nobody else. After several strikes it
is refused at once; when that time is over one request tries, and the others still are refused. Each
failed trial doubles the time.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.kernel.breaker import CLOSED, Breaker
from app.kernel.errors import Unavailable
from app.predictions.loaded import Location

STRIKES = 3
WINDOW_SECONDS = 60.0
OPEN_SECONDS, LONGEST_SECONDS = 10.0, 160.0
ALONE = "alone"
log = structlog.get_logger("breakers")


@dataclass(frozen=True)
class _Suspect:
    """A version with a strike."""

    name: str
    version: str
    breaker: Breaker = field(
        default_factory=lambda: Breaker(STRIKES, WINDOW_SECONDS, OPEN_SECONDS, LONGEST_SECONDS)
    )

    def state(self, now: float) -> str:
        state = self.breaker.state(now)
        return ALONE if state == CLOSED else state

    def is_forgotten(self, now: float) -> bool:
        since = max(self.breaker.strikes[-1], self.breaker.open_until)
        return not self.breaker.on_trial and now - since > WINDOW_SECONDS


class Breakers(Collector):
    """One for each version that has a strike; thread-safe. Tells their states to Prometheus."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._suspects: dict[str, _Suspect] = {}
        self._deaths = Counter(
            "modelyard_scorer_deaths_total",
            "Processes that died while they scored one request alone.",
            ("model", "why"),
            registry=registry,
        )
        registry.register(self)

    def must_be_alone(self, location: Location) -> bool:
        """Whether a request has to be scored alone; raises Unavailable while there is no hope.

        After True comes one of ``struck``, ``well`` and ``undecided``.
        """
        with self._lock:
            now = self._clock()
            suspect = self._suspects.get(location["id"])
            if suspect is not None and suspect.is_forgotten(now):
                del self._suspects[location["id"]]
                return False
            if suspect is None:
                return False
            if not suspect.breaker.admits(now):
                deaths = len(suspect.breaker.strikes)
                raise Unavailable(
                    f"{suspect.name} version {suspect.version} has ended {deaths} "
                    "processes that scored it, so it is not tried for a while",
                    retry_after=max(1, math.ceil(suspect.breaker.left(now))),
                )
            return True

    def struck(self, location: Location, why: str) -> None:
        """A process that scored the version, and nothing else, has died of it."""
        self._deaths.labels(location["model"], why).inc()
        with self._lock:
            now = self._clock()
            suspect = self._suspects.setdefault(
                location["id"], _Suspect(location["model"], str(location["version"]))
            )
            seconds = suspect.breaker.struck(now)
        if seconds:
            log.warning("breaker_opened", subject=location["subject"], seconds=seconds)

    def well(self, location: Location) -> None:
        """The version was scored alone and answered: a trial that it stood closes the breaker."""
        with self._lock:
            suspect = self._suspects.get(location["id"])
            if suspect is not None:
                suspect.breaker.well()

    def undecided(self, location: Location) -> None:
        """Whether the version could be scored didn't show."""
        with self._lock:
            suspect = self._suspects.get(location["id"])
            if suspect is not None:
                suspect.breaker.undecided()

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: there is a sample only for versions with a strike."""
        return []

    def collect(self) -> Iterable[Metric]:
        """How many versions are in each state."""
        told = GaugeMetricFamily(
            "modelyard_scorer_breakers",
            "Versions that have ended a process which scored them.",
            labels=["model", "version", "state"],
        )
        with self._lock:
            now = self._clock()
            found: dict[tuple[str, str, str], int] = {}
            for suspect in self._suspects.values():
                if not suspect.is_forgotten(now):
                    key = (suspect.name, suspect.version, suspect.state(now))
                    found[key] = found.get(key, 0) + 1
        for labels, count in found.items():
            told.add_metric(labels, count)
        yield told
