"""The scorer process: scikit-learn's own answers for versions that aren't served compiled.

It alone of the serving processes loads scikit-learn and joblib artifacts, checked and by an exact
allow-list. One native thread each: rows are few, and the requests come in parallel.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from threadpoolctl import threadpool_limits

from app.kernel.errors import DeadlineExceeded, Invalid
from app.kernel.time_limit import TimeLimit
from app.predictions.loaded import CacheMetrics, LoadedArtifacts, Location, OpenArtifact
from app.scoring.estimator import answer
from app.scoring.frame import Recipe, prepare
from app.scoring.loader import load_sklearn, minor_of

JOBLIB = "joblib"


class Estimators(LoadedArtifacts[Any]):
    """Loaded estimators."""

    def __init__(
        self, open_artifact: OpenArtifact, most_bytes: int, registry: CollectorRegistry
    ) -> None:
        metrics = CacheMetrics(
            Gauge(
                "modelyard_scorer_cache_bytes",
                "Artifact bytes of the loaded estimators.",
                registry=registry,
            ),
            Gauge("modelyard_scorer_cache_models", "Loaded estimators.", registry=registry),
            Counter(
                "modelyard_scorer_cache_lookups_total",
                "Looks for a loaded estimator.",
                ("outcome",),
                registry=registry,
            ),
        )
        super().__init__(JOBLIB, open_artifact, _load, most_bytes, metrics)


def _load(location: Location, data: bytes) -> tuple[Any, int]:
    minor = minor_of(location["library_versions"]["scikit-learn"])
    return load_sklearn(data, expected_sklearn_minor=minor), len(data)


class Scoring:
    """What the process answers."""

    def __init__(
        self, estimators: Estimators, registry: CollectorRegistry, limit: TimeLimit
    ) -> None:
        self._estimators = estimators
        self._limit = limit
        self._seconds = Histogram(
            "modelyard_scorer_seconds",
            "Time of scoring by the estimator itself.",
            ("model",),
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        threadpool_limits(1)

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The questions by name."""
        return {"score": self.score, "load": self.load}

    def score(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """Outputs for ``columns`` by the version at ``location``; raises Invalid for rows that the
        estimator refuses, DeadlineExceeded when loading it took all the ``seconds`` there were.
        """
        until = time.monotonic() + arguments.get("seconds", math.inf)
        with self._limit.kept():
            return self._score(arguments["location"], arguments["columns"], until)

    def load(self, arguments: dict[str, Any]) -> None:
        """Load the version at ``location``, so that who asks for it needn't wait."""
        with self._limit.kept():
            self._estimators.get(arguments["location"])

    def _score(
        self, location: Location, columns: Mapping[str, Sequence[Any]], until: float
    ) -> list[dict[str, Any]]:
        estimator = self._estimators.get(location)
        if time.monotonic() >= until:
            raise DeadlineExceeded
        prepared = prepare(Recipe.from_list(location["recipe"]), columns)
        try:
            with self._seconds.labels(location["model"]).time():
                scores = answer(estimator, prepared, location["signature"]["output"])
        except (ValueError, IndexError, ArithmeticError) as error:
            raise Invalid(f"The model has no answer for these rows: {error}"[:500]) from error
        return scores.rows()
