# ruff: noqa: T201 - it tells the test what happens by its output
"""Worker processes for the tests of jobs: they say what they start and write effects.

The process itself forks one worker for each line ``[output, url, lease, slots]`` that it reads, so
that the imports are paid once.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import structlog
from sqlalchemy import Column, Integer, MetaData, String, Table, insert

from app.kernel.errors import Unavailable
from app.kernel.jobs.claims import Fenced
from app.kernel.jobs.queue import JobQueue
from app.kernel.jobs.worker import Worker
from app.kernel.sandbox.parent import Limits, Sandbox
from app.kernel.sql import Database

effects = Table(
    "effects",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("ref", String(64)),
    Column("attempt", Integer),
)


def despite_silence(act):
    """To a process that was stopped the database seems to have been silent: it asks again."""
    while True:
        try:
            return act()
        except Unavailable:
            time.sleep(0.1)


def main(url, lease, slots):
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    database = Database(url)

    def write_effect(job):
        try:
            with database.write() as session:
                session.execute(insert(effects).values(ref=job.ref, attempt=job.attempt))
                job.complete(session)
        except Fenced:
            print("fenced", job.ref, job.attempt, flush=True)
            raise

    def quick(job):
        print("started", job.ref, job.attempt, flush=True)
        write_effect(job)

    def slow(job):
        """Works for the seconds that its reference says, or until it is told to end."""
        print("started", job.ref, job.attempt, flush=True)
        until = time.monotonic() + float(job.ref)
        while time.monotonic() < until:
            time.sleep(0.02)
            job.check()
        write_effect(job)

    def deaf(job):
        """Works for the seconds that its reference says, whatever it is told."""
        print("started", job.ref, job.attempt, flush=True)
        time.sleep(float(job.ref))
        despite_silence(lambda: write_effect(job))

    def sandboxed(job):
        """Computes for ever in a sandboxed child, in one native call."""

        def tell(progress):
            print("computing", job.attempt, progress["pid"], flush=True)

        with tempfile.TemporaryDirectory() as folder:
            outcome = sandbox.run(
                *("sandbox_targets:spin", {}, Path(folder), limits),
                on_progress=tell,
                should_stop=job.should_stop,
            )
        assert outcome.code == "cancelled", outcome
        job.check()

    def fail(job, error):
        print("failed", job.ref, type(error).__name__, flush=True)

    sandbox = Sandbox()
    limits = Limits(wall_seconds=60, memory_bytes=1 << 30, cpu_seconds=60, file_bytes=1 << 20)
    handlers = {"quick": quick, "slow": slow, "deaf": deaf, "sandboxed": sandboxed}
    worker = Worker({"tests": JobQueue(database)}, handlers, fail, slots=slots, lease=lease)
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())
    worker.run()
    sandbox.close()
    database.close()
    print("drained", flush=True)


if __name__ == "__main__":
    # Nobody waits for the workers: the system collects them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        output, *settings = json.loads(line)
        if (pid := os.fork()) == 0:
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            main(*settings)
            os._exit(0)
        print(pid, flush=True)
