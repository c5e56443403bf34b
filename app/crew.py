"""The workers of one host: as many as the queues ask for, between two bounds.

In order, ten times a second: hear what the workers tell of their load, forget those that have left,
decide how many there should be, add the missing ones at once or let one go, look after the rest.
One that is let go gets SIGUSR1: it claims nothing more, finishes what it holds, and ends.
"""

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from app.config import Settings
from app.kernel.jobs.headcount import Headcount, Heard, demand
from app.kernel.jobs.load import Listener
from app.role_process import Role, spawn

LOAD_VARIABLE = "MODELYARD_LOAD_DESCRIPTOR"
RETIRE = signal.SIGUSR1
log = structlog.get_logger("supervisor")


class WorkerRole(Role):
    """A worker that tells its load."""

    def __init__(self, number: int) -> None:
        super().__init__(f"worker-{number}")
        self.number = number
        self.heard: Heard | None = None
        self._listener: Listener | None = None

    @property
    def busy(self) -> int:
        """How many jobs it holds, as far as it has told."""
        return self.heard.load.busy if self.heard else 0

    def listen(self) -> None:
        """Take in what it has told."""
        if self._listener is not None:
            self.heard = self._listener.latest() or self.heard

    def spawn(self, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """A new process, with a socket to tell its load."""
        self.close()
        self._listener = Listener()
        theirs = self._listener.theirs.fileno()
        process = spawn(self.name, {**environment, LOAD_VARIABLE: str(theirs)}, (theirs,))
        self._listener.theirs.close()
        return process

    def close(self) -> None:
        """Forget what it told."""
        self.heard = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None


class Crew:
    """Keeps as many workers as are wanted."""

    def __init__(self, settings: Settings, sockets: Path) -> None:
        bounds = settings.workers
        self._headcount = Headcount(
            *(bounds.least, bounds.most), slots=settings.slots, idle=settings.worker_idle_seconds
        )
        self._sockets = sockets
        self._serving: list[WorkerRole] = []
        self._leaving: list[WorkerRole] = []

    @property
    def roles(self) -> list[WorkerRole]:
        """All of them, those included that only finish what they hold."""
        return [*self._serving, *self._leaving]

    @property
    def wanted(self) -> int:
        """How many there should be."""
        return self._headcount.wanted

    def look_after(self, environment: Mapping[str, str]) -> None:
        """Do once what is to be done all the time."""
        for worker in self._serving:
            worker.listen()
        self._forget_the_gone()
        self._decide()
        while len(self._serving) < self.wanted:
            self._serving.append(WorkerRole(self._free_number()))
        while len(self._serving) > self.wanted:
            self._retire(min(self._serving, key=lambda worker: (worker.busy, -worker.number)))
        for worker in self._serving:
            worker.look_after(environment)

    def _decide(self) -> None:
        now, before = time.monotonic(), self.wanted
        heard = [worker.heard for worker in self._serving if worker.lives() and worker.heard]
        slots = demand(heard, now)
        after = self._headcount.decide(now, slots, len(self._leaving))
        if after != before:
            log.info("workers_wanted", wanted=after, before=before, demand=slots)

    def _retire(self, worker: WorkerRole) -> None:
        self._serving.remove(worker)
        self._leaving.append(worker)
        if worker.process is not None:
            worker.process.send_signal(RETIRE)
        log.info("worker_retiring", retiring=worker.name, busy=worker.busy)

    def _forget_the_gone(self) -> None:
        for worker in [worker for worker in self._leaving if not worker.lives()]:
            self._leaving.remove(worker)
            worker.close()
            # One that was killed couldn't tidy up; its name would be shown as one that hangs.
            (self._sockets / worker.name).unlink(missing_ok=True)
            status = worker.process.returncode if worker.process else None
            log.info("worker_retired", retired=worker.name, status=status)

    def _free_number(self) -> int:
        taken = {worker.number for worker in self.roles}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)
