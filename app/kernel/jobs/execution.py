"""Runs the handler of one claimed job and writes how it ended.

- it returns: the job is done (unless it said so itself, by ``Job.complete`` in its transaction)
- it raises Later: queued again for that moment, and the attempt doesn't count
- it raises an error that is ``retryable``: queued again with a growing delay, while attempts last
- the same, or Interrupted, while the worker drains: queued again, and the attempt doesn't count
- it raises anything else: ``on_failure(job, error)``, then the job has failed
- its worker dies or hangs: another one claims the job; when its attempts are used up, the last one
  calls ``on_failure(job, LostWorker())`` instead of the handler
"""

import random
import time
from collections.abc import Callable, Mapping

import structlog

from app.kernel import faults
from app.kernel.errors import ServiceError
from app.kernel.jobs.claims import Claims, Fenced, Interrupted, Job, Later, LostWorker
from app.kernel.jobs.queue import DONE, FAILED
from app.kernel.tracing import tracer
from app.kernel.tracing.span import Attributes

Handler = Callable[[Job], None]
OnFailure = Callable[[Job, Exception], None]
log = structlog.get_logger("jobs")

OUTAGE_SECONDS = 0.5
_ERROR_CHARACTERS = 2000
_LONGEST_DELAY = 60.0


class Execution:
    """What a worker does with a claimed job, in a thread of its own."""

    def __init__(self, handlers: Mapping[str, Handler], on_failure: OnFailure) -> None:
        self._handlers = dict(handlers)
        self._on_failure = on_failure

    def run(self, claims: Claims, job: Job) -> None:
        """Run the handler and write how it ended.

        Waits for a database that is away, as long as the worker lives.
        """
        told: Attributes = {
            "messaging.operation.type": "process",
            "messaging.destination.name": job.kind,
            "messaging.message.id": job.id,
            "modelyard.job.attempt": job.attempt,
            "modelyard.project": job.project,
        }
        name = f"process {job.kind}"
        with tracer.span(name, "consumer", parent=job.trace, attributes=told) as span:
            error = self._attempt(job)
            if error is not None and not isinstance(error, Later):
                span.fail(type(error).__name__)
            self._conclude(claims, job, error)

    def _conclude(self, claims: Claims, job: Job, error: Exception | None) -> None:
        while not claims.closed:
            try:
                self._settle(claims, job, error)
            except Exception as outage:  # noqa: BLE001 - a door: else the thread would die unheard
                report("settling_failed", outage, job=job.id)
                if is_retryable(outage):
                    time.sleep(OUTAGE_SECONDS)
                    continue
            return

    def _attempt(self, job: Job) -> Exception | None:
        if job.exhausted:
            return LostWorker("The workers of all attempts died or hung")
        try:
            self._handlers[job.kind](job)
            faults.hit("jobs.handled")
        except Exception as error:  # noqa: BLE001 - the door: whatever it is, the job is settled
            return error
        return None

    def _settle(self, claims: Claims, job: Job, error: Exception | None) -> None:
        about = {"job": job.id, "kind": job.kind, "attempt": job.attempt}
        if error is None:
            if not job.completed and not claims.end(job, DONE):
                log.warning("job_fenced", **about)
        elif isinstance(error, Fenced) or not job.still_mine():
            log.warning("job_fenced", **about)
        elif isinstance(error, Later):
            claims.hand_back(job, delay=error.seconds, excused=True)
        elif claims.draining and is_retryable(error):
            claims.hand_back(job, delay=0, excused=True)
        elif job.tries_left > 0 and is_retryable(error):
            report("job_retried", error, **about)
            claims.hand_back(job, delay=_delay(job, error), excused=False, error=_told(error))
        else:
            report("job_failed", error, **about)
            self._tell_failure(job, error)
            claims.end(job, FAILED, _told(error))

    def _tell_failure(self, job: Job, error: Exception) -> None:
        try:
            self._on_failure(job, error)
        except Exception as defect:
            if is_retryable(defect):
                raise
            log.exception("on_failure_failed", job=job.id, kind=job.kind)


def is_retryable(error: Exception) -> bool:
    """Whether trying again may help."""
    return isinstance(error, Interrupted) or bool(getattr(error, "retryable", False))


def _delay(job: Job, error: Exception) -> float:
    """Seconds before the next attempt: doubled each time, and never the same for all."""
    asked = getattr(error, "retry_after", None) or 2.0 ** (job.attempt - 1)
    return min(float(asked), _LONGEST_DELAY) * random.uniform(1.0, 1.3)  # noqa: S311 - no secret


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]


def report(what: str, error: Exception, **about: object) -> None:
    """Log what we know in one line, and anything else with its traceback."""
    known = isinstance(error, ServiceError | Interrupted | LostWorker)
    log.warning(what, error=_told(error), exc_info=None if known else error, **about)
