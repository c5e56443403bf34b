"""The hot path: a located version and checked columns in, outputs out.

No SQL, no schema, no Flask. A version whose compiled form was verified is scored here; any other
one, or one whose compiled form can't be loaded on this host, by the scorer next door.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.kernel.errors import ServiceError, Unavailable
from app.predictions.ports import Scorer
from app.scoring.format import NotLoadable, load
from app.scoring.model import CompiledModel

COMPILED, SKLEARN = "compiled", "sklearn"
Location = Mapping[str, Any]
OpenArtifact = Callable[[Location, str], bytes]
log = structlog.get_logger("engine")


@dataclass(frozen=True)
class Answered:
    """One output per row, and which engine gave them."""

    engine: str
    outputs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Loaded:
    model: CompiledModel | None
    size: int


class ModelCache:
    """Loaded compiled models, the least recently used ones dropped past a number of bytes.

    Each is loaded by one thread while the others wait for that one model only.
    """

    def __init__(
        self, open_artifact: OpenArtifact, most_bytes: int, registry: CollectorRegistry
    ) -> None:
        self._open = open_artifact
        self._most = most_bytes
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._bytes = Gauge(
            "modelyard_model_cache_bytes", "Artifact bytes of the loaded models.", registry=registry
        )
        self._models = Gauge(
            "modelyard_model_cache_models", "Loaded compiled models.", registry=registry
        )
        self._lookups = Counter(
            "modelyard_model_cache_lookups_total",
            "Looks for a loaded model.",
            ("outcome",),
            registry=registry,
        )

    def get(self, location: Location) -> CompiledModel | None:
        """The compiled model of a version; None when it can't be loaded here."""
        digest = _artifact(location, COMPILED)["digest"]
        with self._lock:
            found = self._loaded.get(digest)
            if found is not None:
                self._loaded.move_to_end(digest)
                self._lookups.labels("hit").inc()
                return found.model
            gate = self._loading.setdefault(digest, threading.Lock())
        with gate:
            with self._lock:
                found = self._loaded.get(digest)
            if found is None:
                self._lookups.labels("miss").inc()
                found = self._load(location)
                self._keep(digest, found)
        return found.model

    def _load(self, location: Location) -> _Loaded:
        data = self._open(location, COMPILED)
        try:
            return _Loaded(load(data), len(data))
        except NotLoadable as error:
            log.warning("compiled_form_refused", subject=location["subject"], why=error.detail)
            return _Loaded(None, 0)

    def _keep(self, digest: str, found: _Loaded) -> None:
        with self._lock:
            self._loading.pop(digest, None)
            self._loaded[digest] = found
            while len(self._loaded) > 1 and self._total() > self._most:
                self._loaded.popitem(last=False)
            self._bytes.set(self._total())
            self._models.set(len(self._loaded))

    def _total(self) -> int:
        return sum(loaded.size for loaded in self._loaded.values())


class Engine:
    """Scores rows by whichever engine the version has."""

    def __init__(self, cache: ModelCache, scorer: Scorer, registry: CollectorRegistry) -> None:
        self._cache = cache
        self._scorer = scorer
        self._rows = Counter(
            "modelyard_predicted_rows_total",
            "Rows scored.",
            ("model", "engine"),
            registry=registry,
        )
        self._seconds = Histogram(
            "modelyard_score_seconds",
            "Time of scoring a request's rows.",
            ("model", "engine"),
            registry=registry,
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5),
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
        model = None
        if location["serving"]["engine"] == COMPILED:
            model = self._cache.get(location)
        engine = COMPILED if model is not None else SKLEARN
        with self._seconds.labels(location["model"], engine).time():
            if model is not None:
                outputs: Sequence[Mapping[str, Any]] = model.score(columns).rows()
            else:
                outputs = self._ask_scorer(location, columns, deadline)
        self._rows.labels(location["model"], engine).inc(len(outputs))
        return Answered(engine, outputs)

    def _ask_scorer(
        self, location: Location, columns: Mapping[str, Sequence[Any]], deadline: float | None
    ) -> Sequence[Mapping[str, Any]]:
        try:
            return self._scorer.score(location, columns, deadline=deadline)
        except ServiceError as error:
            if error.status == 500:
                raise Unavailable(f"{location['subject']} can't be scored right now") from error
            raise


def _artifact(location: Location, format_: str) -> Mapping[str, Any]:
    return next(item for item in location["artifacts"] if item["format"] == format_)
