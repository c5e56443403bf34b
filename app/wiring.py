"""The composition root: one place builds everything of a process and hands it over."""

import os
import threading
from datetime import timedelta
from functools import cached_property
from typing import Final

from app.access.service import Access
from app.access.trail import Trail
from app.access.whole_trail import WholeTrail
from app.basis import Basis
from app.datasets.ingest_request import IngestLimits
from app.datasets.peers import PeerReferrer as DatasetsReferrer
from app.datasets.process_client import IngestClient
from app.datasets.service import DatasetsService
from app.datasets.uploads import Intake as DatasetsIntake
from app.kernel.admission import Admission
from app.kernel.http.bodies import MOST_MEMBERS
from app.kernel.http.receiving import Intake
from app.kernel.local_rpc import Client as LocalClient
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
from app.settings_table import SettingsError
from app.streams.consumer_groups.members import GroupMembers
from app.streams.consumer_groups.service import ConsumerGroups
from app.streams.feed import FED_SERVICES, Feeder, OwnEvents, PeerEvents
from app.streams.groups import Groups
from app.streams.processors.aggregate import Aggregating
from app.streams.processors.archive import Archiving
from app.streams.processors.handling import Kind
from app.streams.processors.hook_guard import HookGuard
from app.streams.processors.kinds import AGGREGATE, ARCHIVE, LEARN, PREDICT, WEBHOOK, rules
from app.streams.processors.lane import Tools
from app.streams.processors.learn import Learning
from app.streams.processors.learners import Learners
from app.streams.processors.peers import ArchivesPeer
from app.streams.processors.peers import PredictionsPeer as StreamsPredictionsPeer
from app.streams.processors.predict import Predict
from app.streams.processors.service import Processors
from app.streams.processors.webhook import Webhook
from app.streams.records.service import Records
from app.streams.references import References
from app.streams.service import Topics
from app.streams.views.model_answers import ModelAnswers
from app.streams.views.model_batches import ModelBatches
from app.streams.views.model_speed import ModelSpeed
from app.streams.views.peers import TrainingPeers
from app.streams.views.service import LambdaViews
from app.training.peers import DatasetsPeer as TrainingDatasetsPeer
from app.training.service import RunBounds, TrainingRuns

# Those that the process had when it started: it may keep to one of them later.
_CORES: Final = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)


class Wiring(Basis):
    """Everything of one process, made when first asked for."""

    @cached_property
    def access(self) -> Access:
        """Projects and keys."""
        return Access(
            self.database("access"),
            self.ring,
            environment_admin=self.settings.admin_key,
        )

    @cached_property
    def trail(self) -> Trail | WholeTrail:
        """What happened to the services served here; where clients ask, to all."""
        own, urls = Trail(self.databases()), self.settings.peer_urls
        apart = {url: name for name, url in urls.items() if name not in self.settings.services}
        if "access" not in self.settings.services or not apart:
            return own
        return WholeTrail(own, [self.peer("access", name) for name in apart.values()])

    @cached_property
    def fit_threads(self) -> int:
        """Threads of one fit."""
        return self.settings.fit_threads or max(1, _CORES // self.settings.slots)

    @cached_property
    def admission(self) -> Admission:
        """Places for predictions."""
        settings = self.settings
        slots = settings.predict_slots or max(2, -(-_CORES // settings.api_processes))
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
                *(
                    DatasetsReferrer(self.peer("datasets", name))
                    for name in ("training", "models", "predictions")
                ),
                DatasetsReferrer(self.peer("datasets", "streams"), whole_datasets_only=True),
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
            referrers=[
                training,
                PeerReferrer(self.peer("models", "predictions")),
                PeerReferrer(self.peer("models", "streams"), tells_default=True),
            ],
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

    @cached_property
    def groups(self) -> Groups:
        """Who reads which partition, and how far."""
        lease = timedelta(seconds=self.settings.reader_lease)
        return Groups(self.database("streams"), lease)

    @cached_property
    def topics(self) -> Topics:
        """Topics of records."""
        # A single server keeps one copy, whatever is asked of it.
        replicas = 3 if self.settings.log_url else 1
        database = self.database("streams")
        topics = Topics(database, self.ring, self.record_log, self.groups, replicas=replicas)
        topics.referrers.append(self.processors.referrers)
        return topics

    @cached_property
    def reading_tools(self) -> Tools:
        """What those work with who read topics and keep what they make of them."""
        return Tools(self.database("streams"), self.record_log, self.groups)

    @cached_property
    def hook_guard(self) -> HookGuard:
        """Where webhooks may go; raises SettingsError for an entry that is none."""
        try:
            return HookGuard(self.settings.webhook_hosts)
        except ValueError as error:
            raise SettingsError(f"MODELYARD_WEBHOOK_HOSTS: {error}") from error

    @cached_property
    def processors(self) -> Processors:
        """What is done with the records of topics."""
        return Processors(self.reading_tools, self.ring, rules(self.hook_guard))

    @cached_property
    def stream_references(self) -> References:
        """What processors and views need of other services."""
        return References(self.database("streams"))

    @cached_property
    def learners(self) -> Learners:
        """What processors have learnt."""
        return Learners(self.database("streams"))

    def processor_kinds(self) -> dict[str, Kind]:
        """What processor processes run, by the kinds that they are made of."""
        predictions = StreamsPredictionsPeer(self.peer("streams", "predictions"))
        return {
            PREDICT: Predict(predictions, self.settings.max_rows),
            AGGREGATE: Aggregating(self.database("streams")),
            LEARN: Learning(self.database("streams")),
            ARCHIVE: Archiving(ArchivesPeer(self.peer("streams", "datasets"))),
            WEBHOOK: Webhook(self.hook_guard),
        }

    @cached_property
    def records(self) -> Records:
        """The records of topics."""
        return Records(self.topics)

    @cached_property
    def consumer_groups(self) -> ConsumerGroups:
        """Clients that share the reading of topics."""
        return ConsumerGroups(self.topics, self.ring)

    @cached_property
    def group_members(self) -> GroupMembers:
        """Members of clients' groups."""
        return GroupMembers(self.topics, self.ring)

    @cached_property
    def feeder(self) -> Feeder:
        """What writes what happens to the topics of events."""
        settings = self.settings
        own = [name for name in FED_SERVICES if name in settings.services]
        databases = list(dict.fromkeys(self.database(name) for name in own))
        peers = [
            PeerEvents(name, self.peer("streams", name))
            for name in FED_SERVICES
            if name not in settings.services and name in settings.peer_urls
        ]
        kept = timedelta(days=settings.events_days)
        return Feeder(self.topics, [OwnEvents(databases, own), *peers], kept)

    @cached_property
    def lambda_views(self) -> LambdaViews:
        """Views over all records of a topic."""
        views = LambdaViews(
            self.database("streams"),
            self.ring,
            self.store,
            self.groups,
            jobs=self.jobs("streams"),
            record_log=self.record_log,
            training=self._training_of_views,
        )
        self.topics.referrers.append(views.of_topic)
        return views

    @cached_property
    def model_speed(self) -> ModelSpeed:
        """What folds records into the learners of model views."""
        return ModelSpeed(
            self.database("streams"),
            StreamsPredictionsPeer(self.peer("streams", "predictions")),
            most_rows=self.settings.max_rows,
            on_drift=self.lambda_views.batches.call_early,
        )

    @cached_property
    def model_answers(self) -> ModelAnswers:
        """What model views foretell."""
        return ModelAnswers(
            self.database("streams"),
            self.lambda_views.answers,
            StreamsPredictionsPeer(self.peer("streams", "predictions")),
            self.settings.max_rows,
        )

    def model_batches(self) -> ModelBatches:
        """What has the models of views trained."""
        return ModelBatches(self.store, self._training_of_views)

    @cached_property
    def _training_of_views(self) -> TrainingPeers:
        peers = (self.peer("streams", name) for name in ("datasets", "training", "models"))
        return TrainingPeers(*peers)

    def start_following(self) -> None:
        """Keep the directory true, and feed the topics of events, in threads of their own."""
        if "predictions" in self.settings.services:
            threading.Thread(target=self.follower.follow, daemon=True, name="follower").start()
        if "streams" in self.settings.services:
            self.feeder.start()

    def close(self) -> None:
        """Stop following, and give all connections back."""
        if "follower" in self.__dict__:
            self.follower.stop()
        if "record_log" in self.__dict__:
            self.record_log.close()
        if "feeder" in self.__dict__:
            self.feeder.stop()
        for database in self._databases.values():
            database.close()
