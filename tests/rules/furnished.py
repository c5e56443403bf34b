"""A yard that has one of everything, each needed by something else where that can be."""

from datetime import timedelta

from app.datasets.tables import Dataset, Hold
from app.datasets.tables import Version as DatasetVersion
from app.kernel.http.api import api_of
from app.kernel.log.seam import NewRecord
from app.kernel.sql import utc_now
from app.predictions.tables import BatchPrediction, Prediction
from app.settings_table import SERVICES
from app.streams.views.examples import NEW as VIEW
from app.streams.views.schemas import LambdaViewIn
from app.training.tables import TrainingRun
from tests.models.modelyard import Modelyard

RUN = {
    "model": "penguins",
    "dataset": "penguins",
    "dataset_version": 1,
    "dataset_digest": "sha-256:0",
    "dataset_storage": {},
    "spec": {"random_state": 1, "refit": True},
    "estimator_name": "auto",
    "priority": 5,
    "limits": {},
    "tags": {},
}
BATCH = {name: RUN[name] for name in ("model", "dataset", "dataset_version", "dataset_storage")}
VERSION = {
    "dataset": "penguins",
    "number": 1,
    "state": "succeeded",
    "format": "csv",
    "source_digest": "sha-256:0",
    "source_bytes": 1,
    "reading": {},
    "created_by": "test",
    "request_id": "test",
}
BODIES = {
    "createTrainingRun": RUN,
    "updateDataset": {"description": "x"},
    "updateTopic": {"description": "x"},
    "updateProcessor": {"description": "x"},
    "setProcessorState": {"state": "paused"},
    "resetProcessor": {"to": "earliest"},
    "updateLambdaView": {"description": "x"},
    "updateModel": {"description": "x"},
    "updateModelVersion": {"tags": {}},
    "updateTrainingRun": {"tags": {}},
    "updateBatchPrediction": {"tags": {}},
    "putModelAlias": {"version": 1},
    "predict": {"inputs": [{}]},
    "putConsumerGroupOffsets": {"to": "earliest"},
    "createConsumerGroup": {"name": "others", "topic": "flights"},
    "viewPredictions": {"inputs": [{}]},
    "produceRecords": {"records": [{"value": 1}]},
    "createDatasetHold": {"version": 1, "holder": "training-runs/x", "seconds": 60},
}
PROCESSOR = {
    "name": "scores",
    "kind": "predict",
    "dead_letter_topic": None,
    "predict": {"model": "penguins"},
}
STORED = {"rows": 1, "inputs_json": "[]", "outputs_json": "[]", "engine": "compiled"}


class Furnished(Modelyard):
    """A yard that has one of everything in the project ``default``."""

    def __init__(self, home, **settings):
        super().__init__(home, services=SERVICES, reader_lease=3600.0, **settings)
        self.register()
        self.put_alias("champion", 1)
        self._furnish_dataset()
        with self.wiring.database("training").write() as session:
            run = TrainingRun(project="default", **RUN)
            session.add(run)
        with self.wiring.database("predictions").write() as session:
            batch = BatchPrediction(project="default", version=1, tags={}, **BATCH)
            stored = Prediction(project="default", model="penguins", version=1, **STORED)
            session.add_all([batch, stored])
        group, member = self._furnish_topic()
        self.places = {
            "dataset": "penguins",
            "topic": "flights",
            "partition": "0",
            "group": group,
            "member": member,
            "processor": "scores",
            "view": self._furnish_view(),
            "model": "penguins",
            "alias": "champion",
            "version": "1",
            "format": "joblib",
            "project": "default",
            "run": run.id,
            "batch": batch.id,
            "prediction": stored.id,
            "key_id": self.admin_key.split("_")[1],
            "name": "Ridge",
        }

    def _furnish_dataset(self):
        """A dataset with a version that a run to be is holding."""
        with self.wiring.database("datasets").write() as session:
            dataset = Dataset(project="default", name="penguins", last_number=1, newest_version=1)
            session.add(dataset)
            session.flush()
            version = DatasetVersion(project="default", dataset_id=dataset.id, **VERSION)
            session.add(version)
            session.flush()
            until = utc_now() + timedelta(hours=1)
            session.add(Hold(version_id=version.id, holder="training-runs/x", until=until))

    def _furnish_topic(self):
        """A topic with a record, and a group with a living member; their name and id."""
        topics = self.wiring.topics
        topic = topics.create(self.call(), "flights")
        self.wiring.record_log.append(topic.id, [NewRecord(b"1", id="first")])
        with topics.database.write() as session:
            group = topics.groups.make(session, topic.row, "planes", {0: 0})
        self._furnish_processor()
        return group.name, topics.groups.join(group.id).id

    def _furnish_processor(self):
        body = {**PROCESSOR, "topic": "flights", "output_topic": "scored"}
        assert self.client().post("/api/v1/topics", json={"name": "scored"}).status_code == 201
        made = self.client().post("/api/v1/processors", json=body)
        assert made.status_code == 201, made.text

    def _furnish_view(self):
        """A view of the topic, with a batch; its name."""
        views = self.wiring.lambda_views
        view = views.create(self.call(), LambdaViewIn().load({**VIEW, "topic": "flights"}))
        views.batches.create(self.call(), view.name)
        return view.name

    def path_of(self, rule):
        """The path of a route to what is here."""
        return rule.build({name: self.places[name] for name in rule.arguments})[1]

    def operations(self):
        """Each method of each documented route: its rule, method and operation."""
        api = api_of(self.app)
        for rule in self.app.url_map.iter_rules():
            for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
                operation = api.operations.get((rule.endpoint, method))
                if operation is not None:
                    yield rule, method, operation
