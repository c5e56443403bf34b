"""What processors of the kind ``learn`` have learnt, as clients see it."""

from typing import Any

from sqlalchemy import select

from app.kernel.auth import Call
from app.kernel.errors import Conflict
from app.kernel.sql import Database
from app.streams.learning.prequential import Prequential
from app.streams.learning.speed_model import SpeedModel
from app.streams.learning.tables import LearnerState
from app.streams.processors.kinds import LEARN
from app.streams.processors.service import find_processor


class Learners:
    """Reads the states of learners."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, call: Call, name: str) -> dict[str, Any]:
        """What a processor has learnt; raises NotFound, Conflict for one of another kind."""
        with self._database.read() as session:
            row = find_processor(session, call, name)
            if row.kind != LEARN:
                raise Conflict(f"The processor {name} is of the kind {row.kind}: it learns nothing")
            query = select(LearnerState).where(LearnerState.processor == row.id)
            states = list(session.scalars(query.order_by(LearnerState.partition)))
        layers = {state.partition: SpeedModel.restored(state.state) for state in states}
        total = Prequential(row.config["task"])
        for layer in layers.values():
            total.include(layer.metrics["speed"])
        labels = [label for layer in layers.values() for label in layer.learner.classes]
        return {
            "processor": name,
            "task": total.task,
            "learnt": sum(layer.learner.learnt for layer in layers.values()),
            "labels": list(dict.fromkeys(labels)),
            "metrics": total.metrics(),
            "drifts": sum(layer.drifts for layer in layers.values()),
            "partitions": [
                {
                    "partition": partition,
                    "learnt": layer.learner.learnt,
                    "waiting": len(layer.halves),
                    "dropped": layer.halves.dropped,
                    "digest": layer.digest(),
                }
                for partition, layer in layers.items()
            ],
        }
