"""Gauges that are read from the databases when Prometheus asks: queues and the states of work."""

from collections.abc import Callable, Iterable, Mapping

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.kernel.errors import ServiceError
from app.kernel.jobs.queue import JobQueue

log = structlog.get_logger("gauges")
States = Callable[[], Mapping[str, int]]


class QueueGauges(Collector):
    """Depth and age of the queues, and how many pieces of work are in each state."""

    def __init__(self, queues: Iterable[JobQueue], states: Mapping[str, States]) -> None:
        self._queues = list(queues)
        self._states = dict(states)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """What ``collect`` gives, without asking any database."""
        return self._families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as of now; a database that is away leaves its samples out."""
        depth, age, states = self._families()
        try:
            for queue in self._queues:
                for kind, count in queue.depth().items():
                    depth.add_metric([kind], count)
                for kind, seconds in queue.oldest_age().items():
                    age.add_metric([kind], seconds)
            for kind, count_by_state in self._states.items():
                for state, count in count_by_state().items():
                    states.add_metric([kind, state], count)
        except ServiceError as error:
            log.warning("gauges_unread", error=error.detail)
        return depth, age, states

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("modelyard_queue_depth", "Jobs that wait.", labels=["kind"]),
            GaugeMetricFamily(
                "modelyard_queue_oldest_seconds",
                "How long the oldest job that could start has waited.",
                labels=["kind"],
            ),
            GaugeMetricFamily(
                "modelyard_work", "Pieces of long work by state.", labels=["kind", "state"]
            ),
        )
