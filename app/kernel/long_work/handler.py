"""How a worker does a piece of long work: claim, children in a sandbox, end; every exit named.

A service gives ``WorkHandler`` a function that performs one attempt; it runs children through
``Attempt.run_child`` and ends with ``Attempt.succeed``. What goes wrong on the way becomes the
work's error, or brings it back to the queue when trying again may help.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import structlog

from app.kernel.artifacts.store import ArtifactMissing
from app.kernel.artifacts.stored import disk_errors
from app.kernel.errors import ServiceError, StorageFull, Unavailable
from app.kernel.jobs.claims import Interrupted, Job
from app.kernel.long_work.lifecycle import Lifecycle, Row, Superseded
from app.kernel.sandbox.outcome import Outcome
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.work_folders import work_folder

_LOG_SECONDS = 1.0
_PROGRESS_SECONDS = 0.2
_INSIST_SECONDS, _INSIST_PAUSE = 60.0, 0.3
_CODES = {"process_limit": "error", "file_limit": "storage_full", "lost": "lost_worker"}
_RETRYABLE = frozenset({"storage_full", "lost_worker"})
Done = TypeVar("Done")
log = structlog.get_logger("work")


class ProcessLost(Unavailable):
    """Something killed a child, neither we nor a lack of memory: the attempt is lost."""

    code = "lost-worker"


class WorkFailed(Exception):
    """The work has ended badly for a reason of its own: ``code`` and ``detail`` are told."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class WorkCancelled(Exception):
    """The client asked for a cancel, and the work has stopped."""


def insist(job: Job, act: Callable[[], Done]) -> Done:
    """What ``act`` gives, which may be done twice, once those whom it asks are there again.

    A short outage must not cost work that is done already. Raises what ``act`` does; Unavailable
    only when it lasts, or the job ought to end.
    """
    until = time.monotonic() + _INSIST_SECONDS
    while True:
        try:
            return act()
        except Unavailable:
            if time.monotonic() > until or job.should_stop():
                raise
            time.sleep(_INSIST_PAUSE)


class Attempt(Generic[Row]):
    """One attempt at a piece of work: its row, its folder, its children."""

    def __init__(
        self,
        row: Row,
        job: Job,
        folder: Path,
        lifecycle: Lifecycle[Row],
        sandbox: Sandbox,
        keep_log: Callable[[Row, str], None],
    ) -> None:
        self.row = row
        self.folder = folder
        self.call = lifecycle.call_for(row)
        self._job = job
        self._lifecycle = lifecycle
        self._sandbox = sandbox
        self._keep_log = keep_log
        self._lock = threading.Lock()
        self._log: list[str] = []
        self._flushed = self._told = 0.0
        self._step = ""
        self._unwanted = False

    def run_child(
        self,
        target: str,
        arguments: Mapping[str, Any],
        limits: Limits,
        *,
        on_told: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> Any:
        """The result of ``target`` in a limited child; ``on_told`` hears its progress first.

        Raises WorkFailed, WorkCancelled, Interrupted, or Unavailable when the child was lost.
        """

        def on_progress(told: Mapping[str, Any]) -> None:
            on_told(told)
            self.on_progress(told)

        outcome = self._sandbox.run(
            target,
            arguments,
            self.folder,
            limits,
            on_progress=on_progress,
            should_stop=self.should_stop,
            on_log=self._collect,
        )
        if outcome.code != "ok":
            self._raise(outcome)
        return outcome.result

    def _raise(self, outcome: Outcome) -> None:
        if outcome.code == "cancelled":
            self._raise_stopped()
        if outcome.code == "lost":
            raise ProcessLost(f"The work's process was lost: {outcome.detail}")
        failure = outcome.failure
        if failure is None:
            detail = outcome.detail
        else:
            detail = failure.message if failure.expected else f"{failure.type}: {failure.message}"
        raise WorkFailed(_CODES.get(outcome.code, outcome.code), detail)

    def _raise_stopped(self) -> NoReturn:
        if self._unwanted:
            raise WorkCancelled
        raise Interrupted("the worker is stopping")

    def check(self) -> None:
        """For work without a child: raises WorkCancelled or Interrupted when it ought to end."""
        if self.should_stop():
            self._raise_stopped()

    def should_stop(self) -> bool:
        """Whether a child ought to end; an outage of the database is no reason."""
        if self._job.should_stop():
            return True
        with suppress(ServiceError):
            self._unwanted = self._lifecycle.should_stop(self.row)
            self._flush(force=False)
        return self._unwanted

    def on_progress(self, told: Mapping[str, Any]) -> None:
        """Hand progress on, a few times a second at most; an outage costs only the display."""
        step = str(told.get("step", ""))
        now = time.monotonic()
        if step == self._step and now - self._told < _PROGRESS_SECONDS:
            return
        self._told = now
        message = str(told.get("message", ""))
        with suppress(ServiceError):
            self._lifecycle.progress(self.row, float(told.get("fraction", 0.0)), step, message)
            if step != self._step:
                self._lifecycle.step(self.row, step, message)
                self._step = step

    def keep(self, **columns: Any) -> None:
        """Keep something in the work's row for an attempt that may follow; raises Superseded."""
        self._lifecycle.keep(self.row, **columns)

    def succeed(self, results: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """End the work well; raises Superseded."""
        self.insist(lambda: self._lifecycle.succeed(self.row, results, data))

    def insist(self, act: Callable[[], Done]) -> Done:
        """``act``, again and again through an outage; see ``insist``."""
        return insist(self._job, act)

    def _collect(self, text: str) -> None:
        with self._lock:
            self._log.append(text)

    def _flush(self, *, force: bool) -> None:
        now = time.monotonic()
        if not force and now - self._flushed < _LOG_SECONDS:
            return
        self._flushed = now
        with self._lock:
            text, self._log = "".join(self._log), []
        if text:
            self._keep_log(self.row, text)

    def close(self) -> None:
        """Write the rest of the log."""
        with suppress(ServiceError):
            self._flush(force=True)


def _no_log(_row: Any, _text: str) -> None:
    """For work whose output nobody reads."""


class WorkHandler(Generic[Row]):
    """Handles the jobs of one kind of work."""

    def __init__(
        self,
        lifecycle: Lifecycle[Row],
        sandbox: Sandbox,
        folder: Path,
        perform: Callable[[Attempt[Row]], None],
        *,
        error_code: str = "error",
        keep_log: Callable[[Row, str], None] = _no_log,
    ) -> None:
        self._lifecycle = lifecycle
        self._sandbox = sandbox
        self._folder = folder
        self._perform = perform
        self._error_code = error_code
        self._keep_log = keep_log

    def on_failure(self, job: Job, error: Exception) -> None:
        """End the work of a job that the worker gives up."""
        if isinstance(error, ServiceError):
            self._lifecycle.give_up(job.ref, error.code.replace("-", "_"), error.detail)
        else:
            detail = f"The worker was lost in each of its attempts: {error}"[:400]
            self._lifecycle.give_up(job.ref, "lost_worker", detail)

    def handle(self, job: Job) -> None:
        """Make one attempt; raises Interrupted or Unavailable for the job to be tried again."""
        row = insist(job, lambda: self._lifecycle.claim(job.ref, job.attempt))
        if row is None:
            return
        try:
            with work_folder(self._folder, name=f"{row.id}-{row.attempt}") as folder:
                self._attempt(row, job, folder)
        except Superseded:
            log.warning("work_superseded", work=row.id, attempt=row.attempt)
        except StorageFull as error:
            self._lifecycle.fail(row, "storage_full", error.detail, retryable=True)

    def _attempt(self, row: Row, job: Job, folder: Path) -> None:
        attempt = Attempt(row, job, folder, self._lifecycle, self._sandbox, self._keep_log)
        try:
            self._make(attempt)
        finally:
            attempt.close()

    def _make(self, attempt: Attempt[Row]) -> None:
        row = attempt.row
        try:
            with disk_errors("The worker's disk"):
                self._perform(attempt)
        except WorkCancelled:
            attempt.insist(lambda: self._lifecycle.cancelled(row))
        except WorkFailed as failure:
            code = self._error_code if failure.code == "error" else failure.code
            attempt.insist(
                partial(
                    self._lifecycle.fail, row, code, failure.detail, retryable=code in _RETRYABLE
                )
            )
        except Interrupted:
            self._lifecycle.hand_back(row, "the worker is stopping")
            raise
        except StorageFull:
            raise
        except ArtifactMissing as error:
            self._lifecycle.fail(row, "artifact_missing", error.detail, retryable=False)
        except ServiceError as error:
            if error.retryable:
                self._lifecycle.hand_back(row, error.detail)
                raise
            self._lifecycle.fail(row, error.code, error.detail, retryable=False)
