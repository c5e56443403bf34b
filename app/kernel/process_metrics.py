"""What the processes next door count and time, shown by the API that Prometheus asks.

Each neighbour (ingest, scorer, workers, and one of several API processes) has a registry of its own
and tells it over its socket. The API asks all of them when it is asked itself; their samples carry
the label ``process``. One that doesn't answer costs only its own samples.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.kernel import supervision
from app.kernel.errors import ServiceError
from app.kernel.local_rpc import Client, Handler, Server

if TYPE_CHECKING:
    # Neighbours have no database: it would be the larger part of what they load.
    from app.kernel.jobs.claims import Job

METHOD = "metrics"
_SECONDS = 1.0
_QUESTION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_JOB_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
log = structlog.get_logger("metrics")


def with_metrics(
    handlers: Mapping[str, Handler], registry: CollectorRegistry
) -> dict[str, Handler]:
    """The handlers of a neighbour, timed, and one that tells what its registry holds."""
    seconds = Histogram(
        "modelyard_question_seconds",
        "Time of a neighbour's answer, or of its beginning.",
        ("method",),
        registry=registry,
        buckets=_QUESTION_BUCKETS,
    )

    def timed(method: str, handler: Handler, arguments: dict[str, Any]) -> Any:
        with seconds.labels(method).time():
            return handler(arguments)

    told: dict[str, Handler] = {
        method: partial(timed, method, handler) for method, handler in handlers.items()
    }
    return told | {METHOD: lambda _arguments: _told(registry)}


def tell_neighbours(socket: Path, registry: CollectorRegistry) -> Server:
    """Tell what a registry holds, in a thread, until the server is stopped."""
    server = Server(socket, with_metrics({}, registry))
    threading.Thread(target=server.run, daemon=True, name="metrics").start()
    return server


def timed_jobs(
    handlers: Mapping[str, Callable[["Job"], None]], registry: CollectorRegistry
) -> dict[str, Callable[["Job"], None]]:
    """The handlers of a worker's jobs, counted and timed."""
    running = Gauge("modelyard_jobs_running", "Jobs at work.", ("kind",), registry=registry)
    seconds = Histogram(
        "modelyard_job_seconds",
        "Time of one attempt at a job: a fit, a batch, an import.",
        ("kind", "outcome"),
        registry=registry,
        buckets=_JOB_BUCKETS,
    )

    def timed(kind: str, handler: Callable[["Job"], None], job: "Job") -> None:
        started, outcome = time.perf_counter(), "raised"
        with running.labels(kind).track_inprogress():
            try:
                handler(job)
                outcome = "ended"
            finally:
                seconds.labels(kind, outcome).observe(time.perf_counter() - started)

    return {kind: partial(timed, kind, handler) for kind, handler in handlers.items()}


def _told(registry: CollectorRegistry) -> list[dict[str, Any]]:
    return [
        {
            "name": family.name,
            "help": family.documentation,
            "type": family.type,
            "samples": [[one.name, one.labels, one.value] for one in family.samples],
        }
        for family in registry.collect()
    ]


class CrewGauges(Collector):
    """How many workers this host's supervisor wants and has; nothing where there is none."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder

    def describe(self) -> Iterable[Metric]:
        """What ``collect`` may give."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """The numbers as the supervisor told them last."""
        wanted, alive = self._families()
        try:
            told = supervision.told(self._folder())
        except OSError:
            told = None
        if told is not None:
            wanted.add_metric([], told.wanted)
            alive.add_metric([], told.alive)
        return wanted, alive

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "modelyard_workers_wanted", "Workers that the load asks for.", labels=()
            ),
            GaugeMetricFamily(
                "modelyard_workers_alive", "Worker processes of this host.", labels=()
            ),
        )


class NeighbourMetrics(Collector):
    """The metrics of all processes whose sockets lie in a folder."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._clients: dict[Path, Client] = {}

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is, only the neighbours know."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Each family once, with the samples of every process."""
        up = GaugeMetricFamily(
            "modelyard_process_up", "Whether a neighbour process answers.", labels=["process"]
        )
        families: dict[str, Metric] = {}
        for path in self._sockets():
            told = self._ask(path)
            up.add_metric([path.name], 0 if told is None else 1)
            for family in told or ():
                known = families.setdefault(
                    family["name"], Metric(family["name"], family["help"], family["type"])
                )
                for name, labels, value in family["samples"]:
                    known.add_sample(name, {**labels, "process": path.name}, value)
        return [up, *families.values()]

    def _sockets(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder().iterdir() if path.is_socket())
        except OSError:
            return []

    def _ask(self, path: Path) -> list[dict[str, Any]] | None:
        client = self._clients.setdefault(path, Client(lambda: path, path.name))
        try:
            told: list[dict[str, Any]] = client.ask(METHOD, {}, seconds=_SECONDS)
        except ServiceError as error:
            log.warning("metrics_untold", of=path.name, error=error.detail)
            return None
        return told
