"""The hot path: a located version and checked columns in, outputs out.

No SQL, no schema, no Flask. A version whose compiled form was verified is scored here; any other
one, or one whose compiled form can't be loaded on this host, by the scorer next door.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from app.kernel import meters
from app.kernel.errors import ServiceError, Unavailable
from app.kernel.free_memory import give_back
from app.predictions.loaded import CacheMetrics, LoadedArtifacts, Location, OpenArtifact
from app.predictions.ports import Scorer
from app.scoring.format import NotLoadable, load, memory_of
from app.scoring.frame import Column
from app.scoring.model import CompiledModel
from app.scoring.output_columns import scores_of
from app.scoring.plain_values import plain_values
from app.scoring.scores import Scores

COMPILED, SKLEARN = "compiled", "sklearn"
_LARGE = 32 * 1024**2
log = structlog.get_logger("engine")


@dataclass(frozen=True)
class Answered:
    """One output per row, and which engine gave them."""

    engine: str
    outputs: Sequence[Mapping[str, Any]]

    def only(self, parts: Collection[str] | None) -> Sequence[Mapping[str, Any]]:
        """The outputs with these parts; None: with all."""
        if parts is None:
            return self.outputs
        return [{name: row[name] for name in row if name in parts} for row in self.outputs]


class _Meters(NamedTuple):
    seconds: meters.Observed
    rows: meters.Amounts


class ModelCache(LoadedArtifacts[CompiledModel | None]):
    """Loaded compiled models; None stands for one that can't be loaded on this host."""

    def __init__(
        self, open_artifact: OpenArtifact, most_bytes: int, registry: CollectorRegistry
    ) -> None:
        metrics = CacheMetrics(
            Gauge(
                "modelyard_model_cache_bytes",
                "Memory of the loaded models, estimated.",
                registry=registry,
            ),
            Gauge("modelyard_model_cache_models", "Loaded compiled models.", registry=registry),
            Counter(
                "modelyard_model_cache_lookups_total",
                "Looks for a loaded model.",
                ("outcome",),
                registry=registry,
            ),
        )
        super().__init__(COMPILED, open_artifact, _load, most_bytes, metrics)


def _load(location: Location, data: bytes) -> tuple[CompiledModel | None, int]:
    try:
        model = load(data)
    except NotLoadable as error:
        log.warning("compiled_form_refused", subject=location["subject"], why=error.detail)
        return None, 0
    size = memory_of(data)
    if size > _LARGE:
        # Loading trees takes several times what they keep.
        give_back()
    return model, size


class Engine:
    """Scores rows by whichever engine the version has."""

    def __init__(self, cache: ModelCache, scorer: Scorer, registry: CollectorRegistry) -> None:
        self._cache = cache
        self._scorer = scorer
        self._meters: dict[tuple[str, str], _Meters] = {}
        self._rows = meters.Counter(
            "modelyard_predicted_rows_total", "Rows scored.", ("model", "engine"), registry
        )
        self._seconds = meters.Histogram(
            "modelyard_score_seconds",
            "Time of scoring a request's rows.",
            ("model", "engine"),
            registry,
            (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5),
        )

    def score(
        self,
        location: Location,
        columns: Mapping[str, Sequence[Any]],
        *,
        deadline: float | None = None,
    ) -> Answered:
        """One output per row; raises Invalid for rows that the model has no answer for,
        Unavailable when the scorer isn't there, DeadlineExceeded when it isn't done in time.
        """
        model, started = self._compiled(location), time.perf_counter()
        if model is None:
            outputs = self._ask_scorer(location, columns, deadline)
        elif all(type(column) is list and len(column) == 1 for column in columns.values()):
            outputs = [model.alone(tuple(columns))([column[0] for column in columns.values()])]
        else:
            outputs = model.score(columns).rows()
        engine = COMPILED if model else SKLEARN
        self._count(location, engine, len(outputs), started)
        return Answered(engine, outputs)

    def score_in_arrays(
        self, location: Location, columns: Mapping[str, Column], *, deadline: float | None = None
    ) -> tuple[str, Scores]:
        """``score``, in arrays: which engine gave the answers, and the answers."""
        model, started = self._compiled(location), time.perf_counter()
        if model is None:
            outputs = self._ask_scorer(location, plain_values(columns), deadline)
            scores = scores_of(outputs, location["signature"]["output"])
        else:
            scores = model.score(columns)
        engine = COMPILED if model else SKLEARN
        self._count(location, engine, len(scores), started)
        return engine, scores

    def score_row(
        self, location: Location, names: tuple[str, ...], row: Sequence[Any]
    ) -> Answered | None:
        """The output for one row of values in the order of ``names``; raises Invalid.

        None where the scorer is to be asked.
        """
        model = self._compiled(location)
        if model is None:
            return None
        started = time.perf_counter()
        output = model.alone(names)(row)
        self._count(location, COMPILED, 1, started)
        return Answered(COMPILED, [output])

    def _compiled(self, location: Location) -> CompiledModel | None:
        compiled = location["serving"]["engine"] == COMPILED
        return self._cache.get(location) if compiled else None

    def _count(self, location: Location, engine: str, rows: int, started: float) -> None:
        labels = location["model"], engine
        kept = self._meters.get(labels)
        if kept is None:
            kept = _Meters(self._seconds.of(*labels), self._rows.of(*labels))
            self._meters[labels] = kept
        kept.seconds.add(time.perf_counter() - started)
        kept.rows.add(rows)

    def holds(self, location: Location) -> bool:
        """Whether a version is ready to answer; what the scorer holds, it alone knows."""
        return location["serving"]["engine"] != COMPILED or self._cache.holds(location)

    def has_room(self, location: Location) -> bool:
        """Whether loading a version would drop no other one, for sure."""
        return location["serving"]["engine"] == COMPILED and self._cache.has_room(location)

    def load(self, location: Location) -> None:
        """Make a version ready to answer; raises ServiceError."""
        if location["serving"]["engine"] == COMPILED and self._cache.get(location) is not None:
            return
        self._scorer.load(location)

    def unload(self, location: Location) -> None:
        """Let go of a version."""
        if location["serving"]["engine"] == COMPILED:
            self._cache.drop(location)

    def _ask_scorer(
        self, location: Location, columns: Mapping[str, Sequence[Any]], deadline: float | None
    ) -> Sequence[Mapping[str, Any]]:
        try:
            return self._scorer.score(location, columns, deadline=deadline)
        except ServiceError as error:
            if error.status == 500:
                raise Unavailable(f"{location['subject']} can't be scored right now") from error
            raise
