"""The job ``training_run``: a limited child fits, another compiles, the worker promotes.

In order: fetch the dataset's file; fit and judge in a child process; compile and verify, then
export, in processes of their own, whose failure costs the model nothing; put the artifacts into the
store; keep the report; register the version; end the run. Once a version is registered the run has
succeeded, whoever is left to say so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import func, select

from app.kernel import faults
from app.kernel.artifacts.store import ArtifactStore, put_all
from app.kernel.auth import Call
from app.kernel.long_work.handler import Attempt, WorkFailed, WorkHandler
from app.kernel.long_work.lifecycle import Lifecycle, Made
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.sql import Database
from app.training.ports import Models
from app.training.tables import RunLog, TrainingRun

PRELOAD = ("app.training.child",)
_FIT, _COMPILE, _EXPORT = (f"app.training.child:{name}" for name in ("fit", "compile", "export"))
_BESIDES: Mapping[str, float] = {_COMPILE: 120.0, _EXPORT: 60.0}
_FILES_TO_MEMORY = 4
_FILES = {"joblib": "model.joblib", "compiled": "compiled.myc", "onnx": "model.onnx"}
log = structlog.get_logger("training")


@dataclass(frozen=True)
class FitHost:
    """What a worker offers to fits: a folder for their work, and its bounds."""

    work: Path
    threads: int
    file_bytes: int = 64 * 10**9


class TrainingWorker:
    """Performs training runs."""

    def __init__(
        self, database: Database, store: ArtifactStore, models: Models, host: FitHost
    ) -> None:
        self._database = database
        self._store = store
        self._models = models
        self._host = host

    def handler(self, sandbox: Sandbox) -> WorkHandler[TrainingRun]:
        """The handler of the jobs."""
        return WorkHandler(
            Lifecycle(
                self._database,
                TrainingRun,
                service="training",
                noun="run",
                made=partial(registered, self._models),
            ),
            sandbox,
            self._host.work,
            self.perform,
            error_code="fit_error",
            keep_log=self.keep_log,
        )

    def perform(self, attempt: Attempt[TrainingRun]) -> None:
        """Make a registered version of a run."""
        run = attempt.row
        attempt.on_progress({"fraction": 0.0, "step": "reading", "message": ""})
        parquet = self._dataset(run, attempt.folder)
        arguments = {"spec": run.spec, "parquet": str(parquet)}
        attempt.run_child(_FIT, arguments, self._limits(run, run.limits["wall_seconds"]))
        for target, seconds in _BESIDES.items():
            try:
                attempt.run_child(target, {}, self._limits(run, seconds))
            except WorkFailed as failure:
                log.warning("not_made", run=run.id, target=target, why=failure.detail[:300])
        report = json.loads((attempt.folder / "report.json").read_text())
        artifacts = self._promote(run, attempt.folder)
        faults.hit("runs.artifacts_stored")
        registration = _registration(run, report, artifacts)
        attempt.insist(lambda: attempt.keep(draft=report))
        version = attempt.insist(
            lambda: self._models.register(attempt.call, run.model, registration)
        )
        faults.hit("runs.version_registered")
        attempt.succeed(*_results(run, report, version))

    def _limits(self, run: TrainingRun, wall_seconds: float) -> Limits:
        return Limits(
            wall_seconds=wall_seconds,
            memory_bytes=run.limits["memory_bytes"],
            cpu_seconds=wall_seconds * self._host.threads + 10,
            # What is written was in memory before.
            file_bytes=min(self._host.file_bytes, _FILES_TO_MEMORY * run.limits["memory_bytes"]),
            threads=self._host.threads,
        )

    def _dataset(self, run: TrainingRun, folder: Path) -> Path:
        """The run's table as a local file, checked against its digest."""
        storage = run.dataset_storage
        path = self._store.local_path(storage["key"], storage["digest"])
        if path is None:
            path = folder / "dataset.parquet"
            self._store.fetch(storage["key"], storage["digest"], path)
        return path

    def _promote(self, run: TrainingRun, folder: Path) -> list[dict[str, Any]]:
        """Put what the children made into the store, under keys of this attempt."""
        made = {name: folder / file for name, file in _FILES.items() if (folder / file).exists()}
        place = f"{run.project}/models/{run.id}-{run.attempt}"
        stored = put_all(self._store, {place + file.suffix: file for file in made.values()})
        return [
            {"format": name, "key": one.key, "digest": one.digest, "bytes": one.bytes}
            for name, one in zip(made, stored, strict=True)
        ]

    def keep_log(self, run: TrainingRun, text: str) -> None:
        """Keep a piece of what the run's processes printed."""
        clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        clean = clean.encode("utf-8", "replace").decode()
        with self._database.write() as session:
            last = session.scalar(select(func.max(RunLog.seq)).where(RunLog.run_id == run.id))
            session.add(RunLog(run_id=run.id, seq=(last or 0) + 1, text=clean))


def registered(models: Models, call: Call, run: TrainingRun) -> Made | None:
    """What an attempt registered that died before the run had ended; None: nothing.

    With its version the run has succeeded: it can be neither cancelled nor lost any more.
    """
    if run.draft is None:
        return None
    version = models.version_of(call, run.model, run.id)
    return None if version is None else _results(run, run.draft, version)


def _results(run: TrainingRun, report: Mapping[str, Any], version: int) -> Made:
    """What a succeeded run keeps, and what the event of its end tells."""
    kept = {"report": dict(report), "draft": None, "model_version": version}
    return kept, {"model": run.model, "model_version": version}


def _registration(
    run: TrainingRun, report: Mapping[str, Any], artifacts: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the models service is told of a new version."""
    return {
        "training_run": run.id,
        "task": report["task"],
        "signature": report["signature"],
        "metrics": report["metrics"],
        "baseline": report["baseline"],
        "recipe": report["recipe"],
        "serving": report["serving"],
        "artifacts": artifacts,
        "lineage": {
            "training_run": run.id,
            "dataset": run.dataset,
            "dataset_version": run.dataset_version,
            "dataset_digest": run.dataset_digest,
            "dataset_origin": run.dataset_origin,
            "target": run.target,
            "features": report["features"],
            "estimator": report["estimator"],
            "validation": report.get("validation"),
            "refit": run.refit,
            "random_state": run.random_state,
            "library_versions": report["library_versions"],
        },
    }
