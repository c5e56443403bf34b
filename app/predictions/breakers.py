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

from app.kernel.errors import Unavailable
from app.predictions.loaded import Location

STRIKES = 3
WINDOW_SECONDS = 60.0
OPEN_SECONDS, LONGEST_SECONDS = 10.0, 160.0
ALONE, OPEN, TRIAL = "alone", "open", "trial"
log = structlog.get_logger("breakers")


@dataclass
class _Suspect:
    """A version with a strike."""

    name: str
    version: str
    strikes: list[float] = field(default_factory=list)
    pause: float = 0.0
    open_until: float = 0.0
    on_trial: bool = False

    def state(self, now: float) -> str:
        if not self.pause:
            return ALONE
        return OPEN if now < self.open_until else TRIAL

    def is_forgotten(self, now: float) -> bool:
        since = max(self.strikes[-1], self.open_until)
        return not self.on_trial and now - since > WINDOW_SECONDS


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
            state = suspect.state(now)
            if state == OPEN or (state == TRIAL and suspect.on_trial):
                wait = max(1, math.ceil(suspect.open_until - now))
                raise Unavailable(
                    f"{suspect.name} version {suspect.version} has ended {len(suspect.strikes)} "
                    "processes that scored it, so it is not tried for a while",
                    retry_after=wait,
                )
            suspect.on_trial = state == TRIAL
            return True

    def struck(self, location: Location, why: str) -> None:
        """A process that scored the version, and nothing else, has died of it."""
        self._deaths.labels(location["model"], why).inc()
        with self._lock:
            now = self._clock()
            suspect = self._suspects.setdefault(
                location["id"], _Suspect(location["model"], str(location["version"]))
            )
            recent = [moment for moment in suspect.strikes if now - moment <= WINDOW_SECONDS]
            suspect.strikes = [*recent, now]
            if suspect.on_trial or len(suspect.strikes) >= STRIKES:
                longer = min(2 * suspect.pause, LONGEST_SECONDS)
                suspect.pause = longer if suspect.on_trial else OPEN_SECONDS
                suspect.open_until = now + suspect.pause
                log.warning("breaker_opened", subject=location["subject"], seconds=suspect.pause)
            suspect.on_trial = False

    def well(self, location: Location) -> None:
        """The version was scored alone and answered: a trial that it stood closes the breaker."""
        with self._lock:
            suspect = self._suspects.get(location["id"])
            if suspect is not None and suspect.on_trial:
                suspect.on_trial, suspect.pause = False, 0.0
                suspect.strikes = suspect.strikes[-1:]

    def undecided(self, location: Location) -> None:
        """Whether the version could be scored didn't show."""
        with self._lock:
            suspect = self._suspects.get(location["id"])
            if suspect is not None:
                suspect.on_trial = False

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
