"""The job ``batch_prediction``: a limited child scores the dataset, the worker keeps the result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.long_work.handler import Attempt, WorkHandler
from app.kernel.long_work.lifecycle import Lifecycle
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.sql import Database
from app.predictions.contents import key_of
from app.predictions.directory import Directory, Reference
from app.predictions.tables import BatchPrediction

PRELOAD = ("app.predictions.batch_child",)
_RUN = "app.predictions.batch_child:run"
_CONTENTS = {"parquet": "output.parquet", "csv": "output.csv"}
_FORMATS = {"compiled": "compiled", "sklearn": "joblib"}


@dataclass(frozen=True)
class BatchHost:
    """What a worker offers to batches: a folder for their work, and its bounds."""

    work: Path
    threads: int
    memory_bytes: int = 4 * 10**9
    wall_seconds: float = 24 * 3600.0
    file_bytes: int = 64 * 10**9


class BatchWorker:
    """Performs batch predictions."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        directory: Directory,
        open_artifact: Callable[[Mapping[str, Any], str], bytes],
        host: BatchHost,
    ) -> None:
        self._database = database
        self._store = store
        self._directory = directory
        self._open_artifact = open_artifact
        self._host = host

    def handler(self, sandbox: Sandbox) -> WorkHandler[BatchPrediction]:
        """The handler of the jobs."""
        return WorkHandler(
            Lifecycle(self._database, BatchPrediction, service="predictions", noun="batch"),
            sandbox,
            self._host.work,
            self.perform,
            error_code="batch_error",
        )

    def perform(self, attempt: Attempt[BatchPrediction]) -> None:
        """Score all rows and keep the result in the store."""
        batch = attempt.row
        attempt.on_progress({"fraction": 0.0, "step": "reading", "message": ""})
        model = attempt.folder / "model"

        def fetch(location: Mapping[str, Any]) -> Mapping[str, Any]:
            # Read once, checked, and these very bytes are what the child loads.
            model.write_bytes(self._open_artifact(location, _FORMATS[_engine_of(location)]))
            return location

        reference = Reference(batch.model, version=batch.version)
        location = self._directory.use(attempt.call, reference, fetch)
        engine = _engine_of(location)
        arguments = {
            "parquet": str(self._dataset(batch, attempt.folder)),
            "model": str(model),
            "format": _FORMATS[engine],
            "recipe": location["recipe"],
            "output": location["signature"]["output"],
            "sklearn_minor": ".".join(location["library_versions"]["scikit-learn"].split(".")[:2]),
            "threads": self._host.threads,
        }
        result = attempt.run_child(_RUN, arguments, self._limits())
        contents = {
            format_: self._keep(batch, attempt.folder / name) for format_, name in _CONTENTS.items()
        }
        results = {"rows": result["rows"], "engine": engine, "contents": contents}
        attempt.succeed(results, {"model": batch.model, "rows": result["rows"]})

    def _limits(self) -> Limits:
        return Limits(
            wall_seconds=self._host.wall_seconds,
            memory_bytes=self._host.memory_bytes,
            cpu_seconds=None,
            file_bytes=self._host.file_bytes,
            threads=self._host.threads,
        )

    def _dataset(self, batch: BatchPrediction, folder: Path) -> Path:
        storage = batch.dataset_storage
        path = self._store.local_path(storage["key"], storage["digest"])
        if path is None:
            path = folder / "dataset.parquet"
            self._store.fetch(storage["key"], storage["digest"], path)
        return path

    def _keep(self, batch: BatchPrediction, source: Path) -> dict[str, Any]:
        stored = self._store.put(key_of(batch, source.suffix), source)
        return {"key": stored.key, "digest": stored.digest, "bytes": stored.bytes}


def _engine_of(location: Mapping[str, Any]) -> str:
    return str(location["serving"]["engine"])
