"""The job ``batch_prediction``: a limited child scores the dataset, the worker keeps the result.

Chunks that the child has finished are kept while it works: an attempt that follows one whose worker
died begins after them (parts.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from app.kernel.artifacts.store import ArtifactStore, put_all
from app.kernel.errors import ServiceError
from app.kernel.jobs.claims import Job
from app.kernel.long_work.handler import Attempt, WorkHandler
from app.kernel.long_work.lifecycle import Lifecycle
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.sql import Database
from app.predictions.contents import key_of
from app.predictions.directory import Directory, Reference
from app.predictions.parts import PART_FILE, BatchParts, source_of
from app.predictions.tables import BatchPrediction

PRELOAD = ("app.predictions.batch_child",)
_RUN = "app.predictions.batch_child:run"
_CONTENTS = {"parquet": "output.parquet", "csv": "output.csv"}
_FORMATS = {"compiled": "compiled", "sklearn": "joblib"}
log = structlog.get_logger("batches")


@dataclass(frozen=True)
class BatchHost:
    """What a worker offers to batches: a folder for their work, and its bounds."""

    work: Path
    threads: int
    memory_bytes: int = 4 * 10**9
    wall_seconds: float = 24 * 3600.0
    file_bytes: int = 64 * 10**9
    chunk_rows: int = 50_000


class BatchHandler:
    """Handles the jobs, and forgets the parts of a batch that has ended."""

    def __init__(self, work: WorkHandler[BatchPrediction], parts: BatchParts) -> None:
        self._work = work
        self._parts = parts

    def handle(self, job: Job) -> None:
        """Make one attempt; raises Interrupted or Unavailable for the job to be tried again."""
        self._work.handle(job)
        self._clear(job)

    def on_failure(self, job: Job, error: Exception) -> None:
        """End the work of a job that the worker gives up."""
        self._work.on_failure(job, error)
        self._clear(job)

    def _clear(self, job: Job) -> None:
        try:
            self._parts.clear(job.ref)
        except ServiceError as error:
            # The chore that looks after the batches' contents will find them.
            log.warning("parts_left", batch=job.ref, error=error.detail)


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
        self._parts = BatchParts(database, store)

    def handler(self, sandbox: Sandbox) -> BatchHandler:
        """The handler of the jobs."""
        work = WorkHandler(
            Lifecycle(self._database, BatchPrediction, service="predictions", noun="batch"),
            sandbox,
            self._host.work,
            self.perform,
            error_code="batch_error",
        )
        return BatchHandler(work, self._parts)

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
            "chunk_rows": self._host.chunk_rows,
            "part_file": PART_FILE,
        }
        result = self._score(attempt, location, arguments)
        contents = self._keep(batch, attempt.folder)
        results = {"rows": result["rows"], "engine": engine, "contents": contents}
        attempt.succeed(results, {"model": batch.model, "rows": result["rows"]})

    def _score(
        self,
        attempt: Attempt[BatchPrediction],
        location: Mapping[str, Any],
        arguments: Mapping[str, Any],
    ) -> Any:
        """Have the child score what no earlier attempt has; its result."""
        batch, kept = attempt.row, 0
        source = source_of(
            model=_digest_of(location), dataset=batch.dataset_storage, rows=self._host.chunk_rows
        )

        def keep(told: Mapping[str, Any]) -> None:
            nonlocal kept
            try:
                while kept < told.get("finished", 0):
                    self._parts.keep(batch, source, kept, attempt.folder)
                    kept += 1
            except ServiceError as error:
                # Tried again after the next chunk: all that is lost by it is time.
                log.warning("part_not_kept", batch=batch.id, part=kept, error=error.detail)

        if batch.attempt > 1:
            kept = self._parts.take(batch, source, attempt.folder)
        if kept:
            message = f"resumed after {kept} finished chunks"
            attempt.on_progress({"step": "scoring", "message": message})
        arguments = {**arguments, "finished": kept}
        return attempt.run_child(_RUN, arguments, self._limits(), on_told=keep)

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

    def _keep(self, batch: BatchPrediction, folder: Path) -> dict[str, Any]:
        files = [folder / name for name in _CONTENTS.values()]
        stored = put_all(self._store, {key_of(batch, file.suffix): file for file in files})
        return {
            format_: {"key": one.key, "digest": one.digest, "bytes": one.bytes}
            for format_, one in zip(_CONTENTS, stored, strict=True)
        }


def _digest_of(location: Mapping[str, Any]) -> str:
    """Of the artifact that scores."""
    wanted = _FORMATS[_engine_of(location)]
    return next(str(item["digest"]) for item in location["artifacts"] if item["format"] == wanted)


def _engine_of(location: Mapping[str, Any]) -> str:
    return str(location["serving"]["engine"])
