"""An installation with a topic of flights and a model view over it, and all who work for them."""

import json
import tempfile
import threading
from datetime import UTC
from pathlib import Path

from sqlalchemy import select

from app.datasets.process import ingest_handlers
from app.kernel.local_rpc import Server
from app.kernel.log.seam import NewRecord
from app.settings_table import SERVICES
from app.streams.tables import Topic
from app.streams.views.speed import SpeedLayer
from app.streams.views.tables import LambdaView
from tests.streams.flights import CATEGORIES, FEATURES
from tests.training.running import working
from tests.yard import Yard

VIEWS = "/api/v1/lambda-views"
LATE = {
    "task": "classification",
    "target": "late",
    "features": list(FEATURES),
    "id_field": "flight",
    "categories": sorted(CATEGORIES),
    "model": "late-flights",
    "dataset": "landed-flights",
    "estimator": {"name": "DecisionTreeClassifier", "params": {"min_samples_leaf": 50}},
}


def record_of(moment):
    """A moment as a record whose key is the flight."""
    value = {"flight": moment.flight, **(moment.row or {"late": moment.late})}
    key = str(moment.flight).encode()
    return NewRecord(json.dumps(value).encode(), key=key, timestamp=moment.time.replace(tzinfo=UTC))


class ModelViewing(Yard):
    """All services; ``working`` has their jobs done, ``fold`` is the speed layer."""

    def __init__(self, home, database_url="", partitions=2, **settings):
        super().__init__(home, database_url=database_url, services=SERVICES, **settings)
        self._ingest = self._start_ingest()
        self.partitions = partitions
        self.make_topic("flights")
        self.speed = self.new_speed()

    def _start_ingest(self):
        sockets = Path(tempfile.mkdtemp(prefix="my-"))
        self.settings.instance.mkdir(exist_ok=True)
        (self.settings.instance / "sockets").write_text(str(sockets))
        server = Server(sockets / "ingest", ingest_handlers(self.settings))
        threading.Thread(target=server.run, daemon=True).start()
        return server

    def make_topic(self, name):
        """An empty topic."""
        body = {"name": name, "partitions": self.partitions}
        assert self.client().post("/api/v1/topics", json=body).status_code == 201

    def topic_id(self, name):
        """What the log calls it."""
        with self.wiring.database("streams").read() as session:
            return session.scalar(select(Topic.id).where(Topic.name == name))

    def close(self):
        """End everything."""
        self._ingest.stop()
        super().close()

    def new_speed(self):
        """One more process that folds."""
        database, log = self.wiring.database("streams"), self.wiring.record_log
        return SpeedLayer(database, log, models=self.wiring.model_speed)

    def produce(self, moments, topic="flights"):
        """Append moments of the stream, in their order."""
        records, topic_id = [record_of(moment) for moment in moments], self.topic_id(topic)
        for start in range(0, len(records), 1000):
            self.wiring.record_log.append(topic_id, records[start : start + 1000])

    def make_view(self, name="late", topic="flights", **model):
        """A view; what is not named is as in ``LATE``."""
        body = {"name": name, "kind": "model", "topic": topic, "model": {**LATE, **model}}
        answer = self.client().post(VIEWS, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json

    def fold(self):
        """Fold all that has come."""
        with self.wiring.database("streams").read() as session:
            views = list(session.scalars(select(LambdaView.id).where(LambdaView.kind == "model")))
        for view in views:
            for partition in range(self.partitions):
                while self.speed.advance(view, partition).records:
                    pass

    def working(self, sandbox):
        """A worker with one place."""
        return working(self.wiring, sandbox, slots=1)

    def batch(self, name="late", seconds=90):
        """Ask for a batch, and wait until it has ended."""
        client = self.client()
        answer = client.post(f"{VIEWS}/{name}/batches")
        assert answer.status_code == 202, answer.text
        path = f"{VIEWS}/{name}/batches/{answer.json['version']}"
        for _ in range(seconds):
            batch = client.get(f"{path}?wait=1").json
            if batch["state"] in ("succeeded", "failed", "cancelled"):
                return batch
        raise AssertionError(batch)

    def ask(self, rows, name="late", **body):
        """The view's answer about rows."""
        return self.client().post(f"{VIEWS}/{name}/predictions", json={"inputs": rows, **body})

    def told(self, path, name="late"):
        """What is told below a view."""
        answer = self.client().get(f"{VIEWS}/{name}{path}")
        assert answer.status_code == 200, answer.text
        return answer.json
