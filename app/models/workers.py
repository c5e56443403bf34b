"""The job ``import_skops``: a sandboxed child converts a client's file, another compiles what came
of it, whose failure costs the model nothing, and the worker stores ours."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from app.compiling import NOT_YET
from app.kernel.artifacts.store import ArtifactStore, put_all
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

PRELOAD = ("app.models.skops.importing", "app.models.skops.serving")
LIMITS = Limits(
    wall_seconds=600.0, memory_bytes=6 << 30, cpu_seconds=600.0, file_bytes=4 << 30, threads=1
)
COMPILE_LIMITS = replace(LIMITS, wall_seconds=120.0)
_TARGET, _COMPILE = "app.models.skops.importing:run", "app.models.skops.serving:run"
_FILES: Final[Mapping[str, str]] = {"joblib": "model.joblib", "compiled": "compiled.myc"}
_CODES = {"error": "import_error", "process_limit": "import_error", "file_limit": "storage_full"}


log = structlog.get_logger("models")


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
        try:
            with work_folder(self._work, name=f"{job.ref}-{job.attempt}") as folder:
                source = folder / "source.skops"
                self._store.fetch(upload.key, upload.digest, source, size=upload.bytes)
                result = self._convert(job, version, folder, source)
                serving = self._compile(job, folder, result)
                artifacts = self._promote(version, folder)
                made = _imported(version, result, serving, artifacts)
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
            refused = _Refused(
                error.code.replace("-", "_"), error.detail, retryable=error.retryable
            )
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

    def _compile(self, job: Job, folder: Path, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Which engine is to serve the model; leaves the compiled form if there is one."""
        arguments = {name: result[name] for name in ("model", "recipe", "signature")}
        outcome = self._sandbox.run(
            _COMPILE, arguments, folder, COMPILE_LIMITS, should_stop=job.should_stop
        )
        if outcome.code == "ok":
            serving: Mapping[str, Any] = outcome.result
            return serving
        if outcome.code == "cancelled":
            raise _reason(outcome)
        log.warning("not_compiled", version=job.ref, code=outcome.code, why=outcome.detail[:300])
        return NOT_YET

    def _promote(self, version: Version, folder: Path) -> list[NewArtifact]:
        """Put what the children made into the store."""
        made = {name: folder / file for name, file in _FILES.items() if (folder / file).exists()}
        place = f"{version.project}/models/{new_id()}"
        stored = put_all(self._store, {place + file.suffix: file for file in made.values()})
        return [NewArtifact(name, one) for name, one in zip(made, stored, strict=True)]


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


def _imported(
    version: Version,
    result: Mapping[str, Any],
    serving: Mapping[str, Any],
    artifacts: Sequence[NewArtifact],
) -> Imported:
    document = {
        "signature": result["signature"],
        "metrics": {},
        "baseline": None,
        "lineage": {
            **version.lineage,
            "estimator": {"imported": result["estimators"]},
            "library_versions": result["library_versions"],
        },
        "serving": dict(serving),
        "recipe": result["recipe"],
        "warnings": result["warnings"],
    }
    return Imported(task=result["task"], artifacts=tuple(artifacts), document=document)
