"""A worker that retires finishes what it holds and claims nothing more."""

import threading
import time
from contextlib import contextmanager

import pytest

from app.kernel.jobs.queue import JobQueue
from app.kernel.jobs.worker import Worker
from app.kernel.sql import Database, KernelBase


class Crewman:
    """A worker in a thread whose jobs last until they are let go."""

    def __init__(self, queue):
        self.loads, self.done = [], []
        self.started, self.let_go = threading.Event(), threading.Event()
        self.worker = Worker(
            *({"tests": queue}, {"k": self._hold}, lambda job, error: None),
            slots=1,
            poll=0.02,
            grace=2.0,
            on_load=self.loads.append,
        )
        self.thread = threading.Thread(target=self.worker.run)

    def _hold(self, job):
        self.started.set()
        while not self.let_go.wait(0.01):
            job.check()
        self.done.append(job.ref)

    def told(self, load):
        """Whether it tells a load, now or soon."""
        until = time.monotonic() + 60
        while self.loads[-1:] != [load] and time.monotonic() < until:
            time.sleep(0.01)
        return self.loads[-1:] == [load]


@pytest.fixture
def queue(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'jobs.db'}")
    KernelBase.metadata.create_all(database.engine)
    yield JobQueue(database)
    database.close()


@contextmanager
def holding_one_of(queue, *refs):
    """A worker that holds the first of some jobs."""
    with queue.database.write() as session:
        for ref in refs:
            queue.enqueue(session, "k", ref, project="p")
    crewman = Crewman(queue)
    crewman.thread.start()
    assert crewman.started.wait(60)
    yield crewman
    crewman.let_go.set()
    crewman.worker.drain()
    crewman.thread.join(60)


def test_it_tells_what_waits_and_what_it_holds(queue):
    with holding_one_of(queue, "a", "b", "c") as crewman:
        assert crewman.told((2, 1))
        crewman.let_go.set()
        assert crewman.told((0, 0))


def test_it_finishes_what_it_holds_and_ends_and_leaves_the_rest(queue):
    with holding_one_of(queue, "a", "b") as crewman:
        crewman.worker.retire()
        crewman.thread.join(0.3)
        assert crewman.thread.is_alive()
        crewman.let_go.set()
        crewman.thread.join(60)
        assert not crewman.thread.is_alive()
    assert (crewman.done, queue.depth()) == (["a"], {"k": 1})


def test_when_all_stop_it_hands_its_work_back_although_it_was_to_finish_it(queue):
    with holding_one_of(queue, "a", "b") as crewman:
        crewman.worker.retire()
        crewman.worker.drain()
        crewman.thread.join(60)
        assert not crewman.thread.is_alive()
    assert (crewman.done, queue.depth()) == ([], {"k": 2})
