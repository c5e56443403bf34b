"""The worker: claims jobs of one or several databases and runs their handlers in threads.

Each database has two threads of its own, so that one that hangs can't hold up the others: one
looks for jobs and claims them when it is given a slot, one renews the leases. All databases share
one budget of slots, which goes to the kind that has the fewest of them.

An outage of the database that is shorter than the lease is only logged. When the worker drains,
handlers learn by ``Job.should_stop()`` that they ought to end; what doesn't end in time is handed
back all the same. When it retires, it finishes what it holds and ends.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping

from app.kernel.errors import ServiceError
from app.kernel.jobs.board import SlotBoard
from app.kernel.jobs.claims import Claims, Job, Ready
from app.kernel.jobs.execution import OUTAGE_SECONDS, Execution, Handler, OnFailure, report
from app.kernel.jobs.headcount import Load
from app.kernel.jobs.queue import JobQueue

_TAKE_OVER = ""
_LONGEST_OUTAGE_SECONDS = 2.0


class Worker:
    """Runs until drained; ``run`` blocks, ``drain`` may be called from a signal handler."""

    def __init__(
        self,
        queues: Mapping[str, JobQueue],
        handlers: Mapping[str, Handler],
        on_failure: OnFailure,
        *,
        slots: int,
        poll: float = 0.2,
        lease: float = 6.0,
        grace: float = 10.0,
        on_load: Callable[[Load], None] = lambda _: None,
    ) -> None:
        self._execution = Execution(handlers, on_failure)
        self._poll, self._lease, self._grace = poll, lease, grace
        self._claims = [Claims(name, queue, handlers, lease) for name, queue in queues.items()]
        self._board = SlotBoard(slots)
        self._on_load = on_load
        self._draining = self._retiring = False
        self._closed = threading.Event()

    def run(self) -> None:
        """Work until drained; then wait for the handlers, and hand back what doesn't end."""
        claiming = [self._start(self._claim_for_ever, claims) for claims in self._claims]
        for claims in self._claims:
            self._start(self._renew_for_ever, claims)
        while not self._draining and not self._has_retired(claiming):
            time.sleep(self._poll)
        self._wind_up(claiming)
        self._closed.set()

    def drain(self) -> None:
        """Claim nothing more, interrupt what runs, and let ``run`` return."""
        # Only a flag: a signal may arrive while any lock is held.
        self._draining = True

    def retire(self) -> None:
        """Claim nothing more, finish what runs, and let ``run`` return; may still be drained."""
        self._retiring = True

    def _has_retired(self, claiming: list[threading.Thread]) -> bool:
        # In this order: what a claiming thread has claimed, it holds when it ends.
        claims_no_more = self._retiring and not any(thread.is_alive() for thread in claiming)
        return claims_no_more and not any(claims.held() for claims in self._claims)

    def _start(self, loop: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=loop, args=arguments, daemon=True)
        thread.start()
        return thread

    def _claim_for_ever(self, claims: Claims) -> None:
        outage = OUTAGE_SECONDS
        while not (self._draining or self._retiring):
            try:
                while not (self._draining or self._retiring) and self._claim_one(claims):
                    pass
                outage = OUTAGE_SECONDS
            except Exception as error:  # noqa: BLE001 - a door: no error may end the loop
                self._board.offer(claims.name, ())
                report("claiming_failed", error, queue=claims.name)
                time.sleep(outage)
                outage = min(2 * outage, _LONGEST_OUTAGE_SECONDS)
            self._board.wait(claims.pause(self._poll) * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    def _claim_one(self, claims: Claims) -> bool:
        """Claim a job and start it; False when there is none, or it isn't this database's turn."""
        self._board.offer(claims.name, ())
        # Asked even when no slot is free: whether others live shows only to a steady look.
        ready = claims.ready()
        loads = [one.load for one in self._claims]
        self._on_load(Load(*(sum(numbers) for numbers in zip(*loads, strict=True))))
        take_over = [_TAKE_OVER] if ready.lapsed else []
        self._board.offer(claims.name, [*take_over, *ready.kinds])
        while (kind := self._board.take(claims.name)) is not None:
            job = None
            try:
                job = _take_over(claims, ready) if kind == _TAKE_OVER else claims.claim(kind)
            finally:
                self._board.exchange(kind, job.kind if job else None)
            if job is not None:
                self._begin(claims, job)
                return True
        return False

    def _begin(self, claims: Claims, job: Job) -> None:
        try:
            self._start(self._execute, claims, job)
        except RuntimeError:
            # The system has no thread left: not renewed, the job comes back when its lease ends.
            claims.release(job)
            self._board.exchange(job.kind, None)
            raise

    def _execute(self, claims: Claims, job: Job) -> None:
        try:
            self._execution.run(claims, job)
        finally:
            claims.release(job)
            self._board.exchange(job.kind, None)

    def _renew_for_ever(self, claims: Claims) -> None:
        pause = self._lease / 3
        while not self._closed.wait(pause):
            pause = self._lease / 3
            try:
                if held := claims.held():
                    claims.renew(held)
            except Exception as error:  # noqa: BLE001 - a door: no error may end the loop
                report("renewing_failed", error, queue=claims.name)
                pause = min(OUTAGE_SECONDS, self._lease / 12)

    def _wind_up(self, claiming: list[threading.Thread]) -> None:
        until = time.monotonic() + self._grace
        for claims in self._claims:
            claims.draining = True
        for thread in claiming:
            thread.join(max(until - time.monotonic(), 0))
        while time.monotonic() < until and any(claims.held() for claims in self._claims):
            time.sleep(0.02)
        for claims in self._claims:
            claims.closed = True
            for job in claims.held():
                job.lose()
                try:
                    claims.hand_back(job, delay=0, excused=True)
                except ServiceError as error:
                    report("handing_back_failed", error, job=job.id)


def _take_over(claims: Claims, ready: Ready) -> Job | None:
    jobs = (claims.take_over(beat) for beat in ready.lapsed)
    return next((job for job in jobs if job is not None), None)
