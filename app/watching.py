"""What tells how a process is: gauges for Prometheus, and whether its neighbours answer."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry

from app.kernel import supervision
from app.kernel.errors import Unavailable
from app.kernel.gauges import QueueGauges, States
from app.kernel.jobs.queue import JobQueue
from app.kernel.local_rpc import Client as LocalClient
from app.kernel.long_work.lifecycle import states_of
from app.kernel.process_metrics import CrewGauges, NeighbourMetrics
from app.predictions.tables import BatchPrediction
from app.streams.processors.gauges import ProcessorGauges
from app.streams.views.tables import ViewBatch
from app.training.tables import TrainingRun
from app.wiring import Wiring


def register_gauges(wiring: Wiring) -> None:
    """Let Prometheus see the queues, the states of long work, and the processes next door."""
    work: dict[str, States] = {}
    services = wiring.settings.services
    if "training" in services:
        work["training_run"] = partial(states_of, wiring.database("training"), TrainingRun)
    if "predictions" in services:
        batches = wiring.database("predictions")
        work["batch_prediction"] = partial(states_of, batches, BatchPrediction)
    if "streams" in services:
        work["view_batch"] = partial(states_of, wiring.database("streams"), ViewBatch)
    queues = [JobQueue(database) for database in wiring.databases()]
    wiring.host_registry.register(QueueGauges(queues, work))
    if "streams" in services:
        wiring.host_registry.register(ProcessorGauges(wiring.processors))
    wiring.host_registry.register(NeighbourMetrics(wiring.settings.sockets))
    wiring.host_registry.register(CrewGauges(wiring.settings.sockets))


def shown_registries(wiring: Wiring) -> list[CollectorRegistry]:
    """What this process shows of its own accord, for itself and its host.

    One of several API processes is a neighbour among others: which of them Prometheus gets to see
    is left to chance, and each shows them all.
    """
    if wiring.settings.api_processes > 1:
        return [wiring.host_registry]
    return [wiring.registry, wiring.host_registry]


def neighbour_checks(wiring: Wiring) -> dict[str, Callable[[], None]]:
    """Whether the neighbour processes answer, by their names, and the server goes on."""
    names = {"datasets": "ingest", "predictions": "scorer"}
    pings = {
        name: LocalClient(partial(wiring.socket, name), name).ping
        for service, name in names.items()
        if service in wiring.settings.services
    }
    return {**pings, "process": partial(_refuse_stopping, wiring)}


def _refuse_stopping(wiring: Wiring) -> None:
    """Raise Unavailable when the supervisor is about to stop all processes of this host."""
    told = supervision.told(wiring.settings.sockets())
    if told is not None and told.stopping:
        raise Unavailable("stopping")
