"""The composition root: one place builds everything of a process and hands it over."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry

from app.access.service import Access, KeyLookup
from app.access.trail import Trail
from app.config import Settings
from app.datasets.ingest_request import IngestLimits
from app.datasets.peers import PeerReferrer as DatasetsReferrer
from app.datasets.process_client import IngestClient
from app.datasets.service import DatasetsService
from app.datasets.uploads import Intake as DatasetsIntake
from app.kernel import supervision
from app.kernel.admission import Admission
from app.kernel.artifacts.store import ArtifactStore, open_store
from app.kernel.audit import Denials
from app.kernel.auth import Authenticator
from app.kernel.disk_reserve import DiskReserve
from app.kernel.errors import Unavailable
from app.kernel.gauges import QueueGauges, States
from app.kernel.http.bodies import MOST_MEMBERS
from app.kernel.http.receiving import Intake
from app.kernel.idempotency import IdempotencyStore
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.jobs.queue import JobQueue
from app.kernel.local_rpc import Client as LocalClient
from app.kernel.log.seam import RecordLog
from app.kernel.log.sql_log import SqlLog
from app.kernel.long_work.lifecycle import states_of
from app.kernel.peers import Peer
from app.kernel.process_metrics import CrewGauges, NeighbourMetrics
from app.kernel.quotas import Quotas
from app.kernel.signing import KeyRing
from app.kernel.slots import Slots
from app.kernel.sql import Database
from app.models.imports import MOST_SKOPS_BYTES
from app.models.peers import PeerReferrer
from app.models.service import Models
from app.predictions.artifacts import ArtifactReader
from app.predictions.batches import BatchPredictions
from app.predictions.breakers import Breakers
from app.predictions.directory import Directory
from app.predictions.engine import Engine, ModelCache
from app.predictions.follower import Follower
from app.predictions.hot_path import HotPath
from app.predictions.peers import DatasetsPeer as PredictionsDatasetsPeer
from app.predictions.peers import ModelsPeer as PredictionsModelsPeer
from app.predictions.scorer_client import ScorerClient
from app.predictions.service import Predictions
from app.predictions.tables import BatchPrediction
from app.secret import key_ring
from app.settings_table import SettingsError
from app.training.peers import DatasetsPeer as TrainingDatasetsPeer
from app.training.service import RunBounds, TrainingRuns
from app.training.tables import TrainingRun

_NO_APP = "no app has been made in this process"


# Those that the process had when it started: it may keep to one of them later.
_CORES: Final = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)


@dataclass
class Wiring:
    """Everything of one process, made when first asked for."""

    settings: Settings
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    app: Callable[[], WSGIApplication] | None = None
    _databases: dict[str, Database] = field(default_factory=dict)
    _peers: dict[tuple[str, str], Peer] = field(default_factory=dict)

    @cached_property
    def ring(self) -> KeyRing:
        """What signs and verifies."""
        return key_ring(self.settings)

    @cached_property
    def store(self) -> ArtifactStore:
        """Where artifacts lie; raises SettingsError for a URL that is none."""
        try:
            return open_store(self.settings.store())
        except ValueError as error:
            raise SettingsError(f"MODELYARD_STORE_URL: {error}") from error

    @cached_property
    def disk_reserve(self) -> DiskReserve:
        """What deletions get on a full disk."""
        files = [str(db.url.database) for db in self.databases() if db.dialect == "sqlite"]
        folders = [self.settings.instance, *(Path(file).parent for file in files)]
        return DiskReserve(folders, self.settings.disk_reserve)

    @cached_property
    def stream_slots(self) -> Slots:
        """Places for those who wait."""
        return Slots(self.settings.stream_slots, "event streams and waits")

    @cached_property
    def download_slots(self) -> Slots:
        """Places for those to whom files are sent."""
        return Slots(self.settings.stream_slots, "downloads")

    @cached_property
    def upload_slots(self) -> Slots:
        """Places for those who send files."""
        return Slots(self.settings.upload_slots, "uploads")

    def database(self, service: str) -> Database:
        """A service's database; services with one URL share one object. Raises SettingsError."""
        url = self.settings.database_url_of(service)
        if url not in self._databases:
            try:
                self._databases[url] = Database(url, lock_timeout=self.settings.database_wait)
            except ValueError as error:
                raise SettingsError(f"The database URL of {service}: {error}") from error
        return self._databases[url]

    def databases(self) -> list[Database]:
        """Every database of the services served here, each once."""
        return list(dict.fromkeys(self.database(service) for service in self.settings.services))

    @cached_property
    def record_log(self) -> RecordLog:
        """Where the records of topics are kept."""
        return SqlLog(self.database("streams"))

    def socket(self, role: str) -> Path:
        """The Unix socket of a neighbour process."""
        return self.settings.sockets() / role

    def idempotency(self, service: str) -> IdempotencyStore:
        """The Idempotency-Keys of a service."""
        kept = timedelta(hours=self.settings.idempotency_hours)
        return IdempotencyStore(self.database(service), kept=kept)

    def peer(self, caller: str, name: str) -> Peer:
        """The service ``name`` as ``caller`` sees it: over the wire, or in this process."""
        if (caller, name) not in self._peers:
            url = self.settings.peer_urls.get(name)
            self._peers[caller, name] = Peer(
                name,
                caller=caller,
                keys=self.ring,
                base_url=url,
                app=None if url else self._own_app,
            )
        return self._peers[caller, name]

    def _own_app(self) -> WSGIApplication:
        if self.app is None:
            raise RuntimeError(_NO_APP)
        return self.app()

    @cached_property
    def key_lookup(self) -> KeyLookup:
        """Where keys are looked up."""
        return KeyLookup(
            self.database("access"),
            self.settings.admin_key,
            believed=self.settings.keys_believed,
        )

    @cached_property
    def authenticator(self) -> Authenticator:
        """Who says whom a token stands for."""
        return Authenticator(self.key_lookup, self.ring)

    @cached_property
    def quotas(self) -> Quotas | None:
        """How many requests each key may send; None: as many as it likes."""
        rate, burst = self.settings.quota_rate, self.settings.quota_burst
        return Quotas(rate, burst) if rate else None

    @cached_property
    def denials(self) -> Denials:
        """Where refusals are noted."""
        return Denials(self.database("access"))

    @cached_property
    def access(self) -> Access:
        """Projects and keys."""
        return Access(
            self.database("access"),
            self.ring,
            environment_admin=self.settings.admin_key,
        )

    @cached_property
    def trail(self) -> Trail:
        """What happened to the services served here."""
        return Trail(self.databases())

    def jobs(self, service: str) -> BoundedQueue:
        """The queue in a service's database; services with one database share it."""
        settings = self.settings
        return BoundedQueue(
            self.database(service),
            of_project=settings.max_queued,
            in_all=settings.max_queued_in_all,
        )

    @cached_property
    def fit_threads(self) -> int:
        """Threads of one fit."""
        return self.settings.fit_threads or max(1, _CORES // self.settings.slots)

    @cached_property
    def admission(self) -> Admission:
        """Places for predictions."""
        settings = self.settings
        slots = settings.predict_slots or max(2, _CORES)
        return Admission(slots, settings.predict_waiters, settings.predict_wait, self.registry)

    @cached_property
    def datasets(self) -> DatasetsService:
        """Datasets and their versions."""
        settings = self.settings
        return DatasetsService(
            self.database("datasets"),
            self.ring,
            self.store,
            ingest=IngestClient(LocalClient(lambda: self.socket("ingest"), "ingest")),
            jobs=self.jobs("datasets"),
            referrers=[
                DatasetsReferrer(self.peer("datasets", name))
                for name in ("training", "models", "predictions")
            ],
            intake=DatasetsIntake(
                self.upload_slots,
                settings.instance / "work" / "uploads",
                settings.max_upload,
                IngestLimits(
                    max_columns=settings.max_columns,
                    max_line_bytes=settings.max_line,
                    max_expanded_bytes=settings.max_expanded,
                ),
            ),
            downloads=self.download_slots,
        )

    @cached_property
    def models(self) -> Models:
        """Models, their versions and aliases."""
        training = PeerReferrer(self.peer("models", "training"), whole_models_only=True)
        return Models(
            self.database("models"),
            self.ring,
            self.store,
            jobs=self.jobs("models"),
            referrers=[training, PeerReferrer(self.peer("models", "predictions"))],
        )

    @cached_property
    def models_intake(self) -> Intake:
        """Where clients' skops files are taken in."""
        work = self.settings.instance / "work" / "imports"
        return Intake(self.upload_slots, work, min(self.settings.max_upload, MOST_SKOPS_BYTES))

    @cached_property
    def training(self) -> TrainingRuns:
        """Training runs."""
        return TrainingRuns(
            self.database("training"),
            self.ring,
            self.jobs("training"),
            TrainingDatasetsPeer(self.peer("training", "datasets")),
            RunBounds(
                max_wall_seconds=self.settings.max_wall_seconds,
                max_memory=self.settings.max_memory,
                threads=self.fit_threads,
            ),
        )

    @cached_property
    def directory(self) -> Directory:
        """Which version a model reference means."""
        return Directory(self.database("predictions"), self._models_of_predictions)

    @cached_property
    def _models_of_predictions(self) -> PredictionsModelsPeer:
        return PredictionsModelsPeer(self.peer("predictions", "models"))

    @cached_property
    def follower(self) -> Follower:
        """What keeps the directory true."""
        return Follower(self.directory, self._models_of_predictions, self.engine)

    @cached_property
    def artifact_reader(self) -> ArtifactReader:
        """What opens versions' artifacts for scoring."""
        return ArtifactReader(self.store, self.ring)

    @cached_property
    def engine(self) -> Engine:
        """What scores rows."""
        cache = ModelCache(self.artifact_reader.open, self.settings.model_cache, self.registry)
        scorer = ScorerClient(
            LocalClient(lambda: self.socket("scorer"), "scorer"),
            LocalClient(lambda: self.socket("alone/scorer"), "scorer", keep=False),
            Breakers(self.registry),
            self.settings.score_seconds,
        )
        return Engine(cache, scorer, self.registry)

    @cached_property
    def predictions(self) -> Predictions:
        """Predictions of single rows."""
        return Predictions(
            self.database("predictions"),
            self.ring,
            self.directory,
            self.engine,
            self.settings.max_rows,
        )

    @cached_property
    def hot_path(self) -> HotPath:
        """The short way of unstored predictions."""
        most_rows = min(self.settings.max_rows, MOST_MEMBERS)
        return HotPath(self.predictions, self.directory, self.engine, most_rows)

    @cached_property
    def batches(self) -> BatchPredictions:
        """Predictions over whole datasets."""
        return BatchPredictions(
            self.database("predictions"),
            self.ring,
            self.jobs("predictions"),
            self.directory,
            PredictionsDatasetsPeer(self.peer("predictions", "datasets")),
            self.store,
        )

    def register_gauges(self) -> None:
        """Let Prometheus see the queues, the states of long work, and the processes next door."""
        work: dict[str, States] = {}
        if "training" in self.settings.services:
            work["training_run"] = partial(states_of, self.database("training"), TrainingRun)
        if "predictions" in self.settings.services:
            batches = self.database("predictions")
            work["batch_prediction"] = partial(states_of, batches, BatchPrediction)
        queues = [JobQueue(database) for database in self.databases()]
        self.registry.register(QueueGauges(queues, work))
        self.registry.register(NeighbourMetrics(self.settings.sockets))
        self.registry.register(CrewGauges(self.settings.sockets))

    def neighbour_checks(self) -> dict[str, Callable[[], None]]:
        """Whether the neighbour processes answer, by their names, and the server goes on."""
        names = {"datasets": "ingest", "predictions": "scorer"}
        pings = {
            name: LocalClient(partial(self.socket, name), name).ping
            for service, name in names.items()
            if service in self.settings.services
        }
        return {**pings, "process": self._refuse_stopping}

    def _refuse_stopping(self) -> None:
        """Raise Unavailable when the supervisor is about to stop all processes of this host."""
        told = supervision.told(self.settings.sockets())
        if told is not None and told.stopping:
            raise Unavailable("stopping")

    def start_following(self) -> None:
        """Keep the directory true, in a thread of its own."""
        if "predictions" in self.settings.services:
            threading.Thread(target=self.follower.follow, daemon=True, name="follower").start()

    def close(self) -> None:
        """Stop following, and give all connections back."""
        if "follower" in self.__dict__:
            self.follower.stop()
        for database in self._databases.values():
            database.close()
