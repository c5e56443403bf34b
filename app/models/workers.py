"""The job ``import_skops``: a sandboxed child converts a client's file, the worker stores ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import ArtifactCorrupt
from app.kernel.errors import ServiceError, StorageFull, Unavailable
from app.kernel.jobs.claims import Interrupted, Job, LostWorker
from app.kernel.sandbox.outcome import Outcome
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.sql import new_id
from app.kernel.work_folders import work_folder
from app.models.imports import Imported
from app.models.service import Models
from app.models.tables import Version
from app.models.versions import NewArtifact

PRELOAD = ("app.models.skops.importing",)
LIMITS = Limits(
    wall_seconds=600.0, memory_bytes=6 << 30, cpu_seconds=600.0, file_bytes=4 << 30, threads=1
)
_TARGET = "app.models.skops.importing:run"
_CODES = {"error": "import_error", "process_limit": "import_error", "file_limit": "storage_full"}


class _Refused(Exception):
    """The import has ended badly; ``error`` is what the version tells of it."""

    def __init__(
        self, code: str, detail: str, *, retryable: bool = False, errors: Any = ()
    ) -> None:
        super().__init__(detail)
        self.error = {
            "code": code,
            "detail": detail,
            "retryable": retryable,
            "errors": [dict(found) for found in errors],
        }


class ImportHandler:
    """Handles the jobs of imports; ``work`` is a folder on this disk for what they need."""

    def __init__(
        self,
        models: Models,
        store: ArtifactStore,
        sandbox: Sandbox,
        work: Path,
        limits: Limits = LIMITS,
    ) -> None:
        self._models = models
        self._store = store
        self._sandbox = sandbox
        self._work = work
        self._limits = limits

    def handle(self, job: Job) -> None:
        """Make one attempt; raises Interrupted or Unavailable for the job to be tried again."""
        waiting = self._models.imports.waiting(job.ref)
        if waiting is None:
            return
        version, upload = waiting
        with work_folder(self._work, name=f"{job.ref}-{job.attempt}") as folder:
            try:
                source = folder / "source.skops"
                self._store.fetch(upload.key, upload.digest, source, size=upload.bytes)
                result = self._convert(job, version, folder, source)
                stored = self._store.put(
                    f"{version.project}/models/{new_id()}.joblib", folder / result["model"]
                )
                made = _imported(version, result, NewArtifact("joblib", stored))
                self._models.imports.finish(job, version, made)
            except ArtifactCorrupt as error:
                self._fail(job, _Refused("artifact_missing", error.detail))
            except StorageFull as error:
                self._fail(job, _Refused("storage_full", error.detail, retryable=True))
            except _Refused as refused:
                self._fail(job, refused)
        self._models.collector.clear()

    def on_failure(self, job: Job, error: Exception) -> None:
        """End the import of a job that the worker gives up."""
        if isinstance(error, LostWorker):
            detail = "The import's worker was lost in each of its attempts"
            refused = _Refused("lost_worker", detail, retryable=True)
        elif isinstance(error, ServiceError):
            refused = _Refused(error.code, error.detail, retryable=error.retryable)
        else:
            refused = _Refused("import_error", f"The import broke: {type(error).__name__}")
        self._models.imports.fail(job, refused.error, ends_job=False)

    def _fail(self, job: Job, refused: _Refused) -> None:
        self._models.imports.fail(job, refused.error)

    def _convert(self, job: Job, version: Version, folder: Path, source: Path) -> dict[str, Any]:
        arguments = {"source": str(source), "inputs": version.document.get("inputs")}
        outcome = self._sandbox.run(
            _TARGET, arguments, folder, self._limits, should_stop=job.should_stop
        )
        if outcome.code != "ok":
            raise _reason(outcome)
        result: dict[str, Any] = outcome.result
        return result


def _reason(outcome: Outcome) -> Exception:
    """Why there is no result, in the terms of a job: try again, or tell the client."""
    if outcome.code == "cancelled":
        return Interrupted("the worker is stopping")
    if outcome.code == "lost":
        return Unavailable(f"The import's process was lost: {outcome.detail}")
    failure = outcome.failure
    code = _CODES.get(outcome.code, outcome.code)
    retryable = code == "storage_full"
    if failure is None:
        return _Refused(code, outcome.detail, retryable=retryable)
    if failure.expected:
        return _Refused(code, failure.message, retryable=retryable, errors=failure.errors)
    return _Refused(code, f"The import broke: {failure.type}", retryable=retryable)


def _imported(version: Version, result: Mapping[str, Any], model: NewArtifact) -> Imported:
    document = {
        "signature": result["signature"],
        "metrics": {},
        "baseline": None,
        "lineage": {
            **version.lineage,
            "estimator": {"imported": result["estimators"]},
            "library_versions": result["library_versions"],
        },
        "serving": {"engine": "sklearn", "reason": "It was imported", "verified": None},
        "recipe": result["recipe"],
        "warnings": result["warnings"],
    }
    return Imported(task=result["task"], artifacts=(model,), document=document)
