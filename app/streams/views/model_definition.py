"""What a model view tells: which label it foretells from which features, and how layers merge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.scoring.online import OnlineSpec
from app.streams.learning.labelling import Reading
from app.streams.learning.merges import WARM_START
from app.streams.learning.speed_model import SpeedSpec


@dataclass(frozen=True)
class ModelDefinition:
    """A stored definition, read. ``seed_records``: how many records of a partition before a
    batch's cut the learner begins with; None: all.
    """

    told: Mapping[str, Any]
    reading: Reading
    spec: SpeedSpec
    seed_records: int | None
    stale_seconds: float
    early_on_drift: bool

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "ModelDefinition":
        """That of what is stored."""
        features = tuple(told["features"])
        online = OnlineSpec(
            told["task"], features, frozenset(told["categories"]), told["learning_rate"]
        )
        return cls(
            told=told,
            reading=Reading(features, told["target"], told["id_field"]),
            spec=SpeedSpec(online, told["merge"]),
            seed_records=None if told["merge"] == WARM_START else told["seed_records"],
            stale_seconds=told["stale_seconds"],
            early_on_drift=told["batch_on_drift"],
        )

    @property
    def model(self) -> str:
        """The model whose versions the batches are."""
        return str(self.told["model"])

    @property
    def dataset(self) -> str:
        """The dataset whose versions the batches are trained on."""
        return str(self.told["dataset"])

    def run(self, dataset_version: int, tags: Mapping[str, str]) -> dict[str, Any]:
        """What the training service is asked for."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "dataset_version": dataset_version,
            "target": self.reading.target,
            "features": list(self.reading.features),
            "task": self.spec.online.task,
            "estimator": self.told["estimator"],
            "random_state": self.told["random_state"],
            "tags": dict(tags),
        }
