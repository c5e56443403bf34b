"""How processors get on, for Prometheus: read from the database when it asks."""

from collections.abc import Iterable

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.kernel.errors import ServiceError
from app.streams.processors.progress import COUNTS
from app.streams.processors.service import Processors

log = structlog.get_logger("gauges")
_LABELS = ("project", "processor")


class ProcessorGauges(Collector):
    """Lag, rate and counts of every processor; one whose log is away leaves its samples out."""

    def __init__(self, processors: Processors) -> None:
        self._processors = processors

    def describe(self) -> Iterable[Metric]:
        """What ``collect`` gives, without asking any database."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """As of now."""
        lag, rate, records = self._families()
        try:
            for shown in self._processors.every():
                labels = [shown.row.project, shown.row.name]
                lag.add_metric(labels, shown.lag)
                rate.add_metric(labels, shown.rate)
                for outcome in COUNTS:
                    records.add_metric([*labels, outcome], shown.counts[outcome])
        except ServiceError as error:
            log.warning("processors_unread", error=error.detail)
        return lag, rate, records

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily]:
        return (
            GaugeMetricFamily(
                "modelyard_processor_lag",
                "Records that a processor has still to read.",
                labels=_LABELS,
            ),
            GaugeMetricFamily(
                "modelyard_processor_rate",
                "Records a second that a processor has taken of late.",
                labels=_LABELS,
            ),
            CounterMetricFamily(
                "modelyard_processor_records_total",
                "What has become of records: taken, written, dead, dropped, late, gone, errors.",
                labels=(*_LABELS, "outcome"),
            ),
        )
