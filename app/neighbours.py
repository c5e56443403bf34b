"""The main loops of the API's neighbours on a host: no web, no database, no wiring.

Each loads only what it needs: scikit-learn is 100 MB.
"""

import signal
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.config import Settings
from app.kernel.artifacts.store import open_store
from app.kernel.keeper import Keeper
from app.kernel.loading import loading
from app.kernel.local_rpc import Handler, Server
from app.kernel.process_metrics import with_metrics
from app.kernel.time_limit import TimeLimit
from app.kernel.tracing import tracer
from app.secret import key_ring


def run_ingest(settings: Settings) -> None:
    """Turn uploads into checked Parquet, and read it back, for the API next door."""
    from app.datasets.process import ingest_handlers

    tracer.start("ingest")
    serve_locally(settings.sockets() / "ingest", ingest_handlers(settings), CollectorRegistry())
    tracer.stop()


def run_scorer(settings: Settings) -> None:
    """Answer for versions that aren't served compiled."""
    from app.predictions.artifacts import ArtifactReader
    from app.predictions.scorer import Estimators, Scoring
    from app.scoring.loader import import_all

    with loading():
        import_all()
        tracer.load()

    def make_handlers() -> Mapping[str, Handler]:
        tracer.start("scorer")
        registry = CollectorRegistry()
        reader = ArtifactReader(open_store(settings.store()), key_ring(settings))
        estimators = Estimators(reader.open, settings.model_cache, registry)
        scoring = Scoring(estimators, registry, TimeLimit(settings.score_seconds))
        return with_metrics(scoring.handlers(), registry)

    sockets = settings.sockets()
    Keeper(sockets / "scorer", sockets / "alone/scorer", make_handlers).run()


def serve_locally(
    socket: Path, handlers: Mapping[str, Handler], registry: CollectorRegistry
) -> None:
    """Answer neighbours until SIGTERM."""
    server = Server(socket, with_metrics(handlers, registry))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.run()


NEIGHBOURS = {"ingest": run_ingest, "scorer": run_scorer}
