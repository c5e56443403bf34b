import contextlib
import json
import os
import queue as queues
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.event import listen

from app.kernel.errors import Invalid, Unavailable
from app.kernel.jobs.board import SlotBoard
from app.kernel.jobs.claims import Claims, Fenced, Interrupted, Later, LostWorker
from app.kernel.jobs.leases import Beat, LeaseWatch
from app.kernel.jobs.queue import LONGEST_DELAY, JobQueue, JobRow
from app.kernel.jobs.worker import Worker
from app.kernel.sql import Database, KernelBase
from tests.faults.rounds import rounds

sys.path.append(str(Path(__file__).parent))
import job_process
from job_process import effects

SECONDS = 60


class StandingClock:
    """A time that stands until it is moved."""

    def __init__(self):
        self.time = datetime(2030, 1, 1, tzinfo=UTC)
        self.passed = 1000.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.passed

    def advance(self, seconds):
        self.time += timedelta(seconds=seconds)
        self.passed += seconds


@pytest.fixture
def database(database_url):
    database = Database(database_url, lock_timeout=20)
    KernelBase.metadata.create_all(database.engine)
    effects.create(database.engine)
    yield database
    database.close()


@pytest.fixture
def queue(database):
    return JobQueue(database)


@pytest.fixture
def clock():
    return StandingClock()


@pytest.fixture
def timed_queue(database, clock):
    return JobQueue(database, clock)


def add(queue, ref="r", kind="k", **options):
    with queue.database.write() as session:
        return queue.enqueue(session, kind, ref, project="p", **options)


def rows(queue, **wanted):
    with queue.database.read() as session:
        return session.scalars(select(JobRow).filter_by(**wanted).order_by(JobRow.id)).all()


def state(queue, ref="r"):
    return rows(queue, ref=ref)[-1].state


def claims(queue, lease=6.0, kinds=("k",)):
    return Claims("tests", queue, kinds, lease)


def eventually(condition, seconds=SECONDS):
    until = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    assert met
    return met


@contextlib.contextmanager
def rolled_back(database):
    with contextlib.suppress(LookupError), database.write() as session:
        yield session
        raise LookupError


def write_effect(database, job):
    with database.write() as session:
        session.execute(insert(effects).values(ref=job.ref, attempt=job.attempt))
        job.complete(session)


def effects_of(database):
    with database.read() as session:
        return session.execute(select(effects.c.ref, effects.c.attempt)).all()


@contextlib.contextmanager
def working(queue, handlers, failures=None, **options):
    """A worker in a thread, drained at the end."""
    named = queue if isinstance(queue, dict) else {"tests": queue}
    failed = failures if failures is not None else []
    options = {"slots": 2, "poll": 0.02, "lease": 2.0, "grace": 2.0} | options
    worker = Worker(named, handlers, lambda job, error: failed.append((job, error)), **options)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.drain()
        thread.join(SECONDS)
        assert not thread.is_alive()


class TestEnqueue:
    def test_is_part_of_the_callers_transaction(self, queue):
        with rolled_back(queue.database) as session:
            queue.enqueue(session, "k", "r", project="p")
            assert session.scalars(select(JobRow.ref)).all() == ["r"]
        assert queue.depth() == {}

    def test_of_the_same_unfinished_work_changes_nothing(self, queue):
        assert add(queue) is True
        assert add(queue) is False
        assert add(queue, kind="other") is True
        assert queue.depth() == {"k": 1, "other": 1}

    def test_of_the_same_work_is_new_when_the_first_has_ended(self, queue):
        add(queue)
        worker = claims(queue)
        worker.end(worker.claim("k"), "done")
        assert add(queue) is True

    @pytest.mark.fault("F19")
    def test_of_the_same_work_by_many_at_once_adds_one_job(self, queue):
        together, added = threading.Barrier(8), []

        def enqueue():
            together.wait(SECONDS)
            added.append(add(queue))

        threads = [threading.Thread(target=enqueue) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (added.count(True), len(rows(queue))) == (1, 1)

    def test_refuses_a_start_that_is_too_far_away(self, timed_queue, clock):
        with pytest.raises(ValueError, match="may wait"):
            add(timed_queue, not_before=clock.now() + LONGEST_DELAY + timedelta(seconds=1))
        assert timed_queue.depth() == {}


class TestCancelQueued:
    def test_keeps_the_job_from_ever_starting(self, queue):
        add(queue)
        with queue.database.write() as session:
            assert queue.cancel_queued(session, "k", "r") is True
            assert queue.cancel_queued(session, "k", "r") is False
        assert claims(queue).claim("k") is None
        assert state(queue) == "cancelled"

    def test_does_not_touch_one_that_runs(self, queue):
        add(queue)
        claims(queue).claim("k")
        with queue.database.write() as session:
            assert queue.cancel_queued(session, "k", "r") is False
        assert state(queue) == "running"

    def test_is_part_of_the_callers_transaction(self, queue):
        add(queue)
        with rolled_back(queue.database) as session:
            queue.cancel_queued(session, "k", "r")
        assert state(queue) == "queued"


class TestMetrics:
    def test_depth_and_age_count_what_waits(self, timed_queue, clock):
        add(timed_queue, "1")
        clock.advance(30)
        add(timed_queue, "2")
        add(timed_queue, "3", not_before=clock.now() + timedelta(seconds=60), kind="later")
        assert timed_queue.depth() == {"k": 2, "later": 1}
        assert timed_queue.oldest_age() == {"k": 30.0, "later": 0.0}
        claims(timed_queue).claim("k")
        assert timed_queue.oldest_age()["k"] == 0.0

    def test_forget_drops_only_what_ended_long_ago(self, timed_queue, clock):
        worker = claims(timed_queue)
        for ref in ("old", "new", "running", "queued"):
            add(timed_queue, ref)
        worker.end(worker.claim("k"), "done")
        clock.advance(100)
        worker.end(worker.claim("k"), "failed")
        worker.claim("k")
        assert timed_queue.forget(timedelta(seconds=50)) == 1
        assert [row.ref for row in rows(timed_queue)] == ["new", "running", "queued"]


class TestClaim:
    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(priorities=st.lists(st.integers(1, 9), max_size=8))
    def test_goes_by_priority_then_age(self, queue, priorities):
        kind = uuid.uuid4().hex
        for number, priority in enumerate(priorities):
            add(queue, str(number), kind=kind, priority=priority)
        worker = claims(queue, kinds=[kind])
        order = [int(worker.claim(kind).ref) for _ in priorities]
        assert order == sorted(range(len(priorities)), key=priorities.__getitem__)
        assert worker.claim(kind) is None

    def test_takes_a_job_without_a_priority_in_the_middle(self, queue):
        for ref, options in (("6", {"priority": 6}), ("-", {}), ("4", {"priority": 4})):
            add(queue, ref, **options)
        worker = claims(queue)
        assert [worker.claim("k").ref for _ in range(3)] == ["4", "-", "6"]

    def test_waits_for_not_before(self, timed_queue, clock):
        add(timed_queue, not_before=clock.now() + timedelta(seconds=10))
        worker = claims(timed_queue)
        assert (worker.ready().kinds, worker.claim("k")) == ([], None)
        clock.advance(10)
        assert worker.ready().kinds == ["k"]
        assert worker.claim("k").ref == "r"

    def test_looks_into_a_file_only_after_somebody_has_committed(self, queue):
        worker, asked = claims(queue), []
        listen(queue.database.engine, "before_cursor_execute", lambda *told: asked.append(told))
        assert worker.ready().kinds == []
        once = len(asked)
        assert worker.ready().kinds == []
        assert (len(asked) == once) == (queue.database.dialect == "sqlite")
        add(queue)
        assert worker.ready().kinds == ["k"]
        assert worker.claim("k") is not None
        assert (worker.ready().kinds, worker.load.busy) == ([], 1)

    def test_by_many_at_once_gives_each_job_to_one(self, queue):
        for number in range(30):
            add(queue, str(number))
        claimed = []

        def claim_all():
            worker = claims(queue)
            while job := worker.claim("k"):
                claimed.append(job.ref)

        threads = [threading.Thread(target=claim_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(claimed, key=int) == [str(number) for number in range(30)]

    def test_uses_the_indexes(self, queue):
        question = "EXPLAIN QUERY PLAN" if queue.database.dialect == "sqlite" else "EXPLAIN"
        asked = (
            "SELECT id FROM kernel_jobs WHERE state = 'queued' AND kind = 'k'"
            " ORDER BY priority, id LIMIT 1"
        )
        with queue.database.read() as session:
            if queue.database.dialect == "postgresql":
                session.execute(text("SET LOCAL enable_seqscan = off"))
            plan = str(session.execute(text(f"{question} {asked}")).all())
        assert "ix_kernel_jobs_queued" in plan
        assert "sort" not in plan.lower().replace("b-tree for order by", "sort")


def pass_time(clock, seconds, *workers):
    """In steps in which each worker looks; what the last look of the last one found lapsed."""
    lapsed = []
    for _ in range(round(seconds * 2)):
        clock.advance(0.5)
        for worker in workers:
            lapsed = worker.ready().lapsed
    return lapsed


class TestLease:
    def test_that_ran_out_lets_another_take_over_and_fences_the_first(self, timed_queue, clock):
        add(timed_queue)
        first, second = claims(timed_queue), claims(timed_queue)
        late = first.claim("k")
        assert pass_time(clock, 6, second) == []
        [beat] = pass_time(clock, 1, second)
        job = second.take_over(beat)
        assert (late.attempt, job.attempt) == (1, 2)
        assert first.renew([late]) == []
        assert not late.still_mine()
        assert not first.end(late, "done")
        assert not first.hand_back(late, delay=0, excused=True)
        assert second.end(job, "done")

    def test_that_ran_out_before_two_who_watch_goes_to_one(self, timed_queue, clock):
        add(timed_queue)
        claims(timed_queue).claim("k")
        second, third = claims(timed_queue), claims(timed_queue)
        [beat] = pass_time(clock, 7, second, third)
        assert second.take_over(beat).attempt == 2
        assert (second.take_over(beat), third.take_over(beat)) == (None, None)

    def test_that_is_renewed_keeps_the_job(self, timed_queue, clock):
        add(timed_queue)
        first, second = claims(timed_queue), claims(timed_queue)
        job = first.claim("k")
        for _ in range(5):
            assert pass_time(clock, 5, second) == []
            assert first.renew([job]) == [job]
        assert job.still_mine()

    def test_that_was_renewed_at_the_last_moment_keeps_the_job(self, timed_queue, clock):
        add(timed_queue)
        first, second = claims(timed_queue), claims(timed_queue)
        job = first.claim("k")
        [beat] = pass_time(clock, 7, second)
        assert first.renew([job]) == [job]
        assert second.take_over(beat) is None

    @pytest.mark.fault("F18")
    def test_does_not_depend_on_the_wall_clock(self, timed_queue, clock):
        add(timed_queue)
        first, second = claims(timed_queue), claims(timed_queue)
        first.claim("k")
        pass_time(clock, 3, second)
        clock.time += timedelta(days=1)
        assert pass_time(clock, 2, second) == []
        clock.time -= timedelta(days=2)
        assert len(pass_time(clock, 2, second)) == 1

    def test_hardly_runs_while_nobody_looks(self, timed_queue, clock):
        add(timed_queue)
        second = claims(timed_queue)
        claims(timed_queue).claim("k")
        pass_time(clock, 3, second)
        clock.advance(3600)
        assert second.ready().lapsed == []
        assert len(pass_time(clock, 3, second)) == 1

    def test_that_ran_out_is_renewed_if_nobody_took_the_job(self, queue):
        add(queue)
        job = claims(queue, lease=0.05).claim("k")
        time.sleep(0.1)
        assert job.still_mine()

    def test_that_ran_out_is_not_taken_over_from_oneself(self, timed_queue, clock):
        add(timed_queue)
        worker = claims(timed_queue)
        job = worker.claim("k")
        assert pass_time(clock, 7, worker) == []
        worker.release(job)
        assert len(pass_time(clock, 7, worker)) == 1

    def test_fences_the_transaction_of_a_late_handler(self, timed_queue, clock):
        add(timed_queue)
        second = claims(timed_queue)
        late = claims(timed_queue).claim("k")
        second.take_over(*pass_time(clock, 7, second))
        with pytest.raises(Fenced):
            write_effect(timed_queue.database, late)
        assert effects_of(timed_queue.database) == []

    def test_takeovers_use_up_the_attempts(self, timed_queue, clock):
        add(timed_queue, max_attempts=2)
        jobs = [claims(timed_queue).claim("k")]
        for _ in range(2):
            worker = claims(timed_queue)
            jobs.append(worker.take_over(*pass_time(clock, 7, worker)))
        assert [(job.attempt, job.exhausted) for job in jobs] == [(1, False), (2, False), (3, True)]

    def test_handing_back_uses_up_none(self, timed_queue):
        add(timed_queue, max_attempts=2)
        worker = claims(timed_queue)
        attempts = []
        for _ in range(5):
            job = worker.claim("k")
            attempts.append((job.attempt, job.exhausted))
            worker.hand_back(job, delay=0, excused=True)
        assert attempts == [(number, False) for number in range(1, 6)]

    @given(st.lists(st.tuples(st.floats(0.01, 1.5), st.booleans()), max_size=30))
    def test_runs_out_only_after_a_whole_lease_without_a_beat(self, steps):
        clock, beats, quiet = StandingClock(), 0, 0.0
        watch = LeaseWatch(6.0, clock.monotonic)
        watch.look([Beat("j", 1, beats)])
        for seconds, beat in steps:
            clock.advance(seconds)
            quiet += seconds
            if beat:
                beats, quiet = beats + 1, 0.0
            lapsed = watch.look([Beat("j", 1, beats)])
            assert bool(lapsed) == (quiet > 6.0 + 1e-9) or abs(quiet - 6.0) < 1e-6


class TestWorker:
    def test_runs_each_job_once(self, queue):
        ran = []
        for number in range(20):
            add(queue, str(number))
        with working(queue, {"k": lambda job: ran.append(job.ref)}):
            eventually(lambda: len(rows(queue, state="done")) == 20)
        assert sorted(ran, key=int) == [str(number) for number in range(20)]

    def test_completes_a_job_with_its_effect_in_one_transaction(self, queue):
        add(queue)
        with working(queue, {"k": lambda job: write_effect(queue.database, job)}):
            eventually(lambda: state(queue) == "done")
        assert effects_of(queue.database) == [("r", 1)]

    def test_claims_only_kinds_that_it_has_a_handler_for(self, queue):
        add(queue, "other", kind="other")
        add(queue)
        with working(queue, {"k": lambda job: None}):
            eventually(lambda: state(queue) == "done")
        assert state(queue, "other") == "queued"

    def test_starts_a_job_soon_after_it_was_enqueued(self, queue):
        started = queues.SimpleQueue()
        with working(queue, {"k": lambda job: started.put(time.monotonic())}, poll=0.2):
            time.sleep(0.3)
            add(queue)
            enqueued = time.monotonic()
            # 0.1 s on average
            assert started.get(timeout=SECONDS) - enqueued < 10

    def test_tries_again_after_an_error_that_may_pass(self, queue):
        tried, failures = [], []

        def fail_once(job):
            tried.append((job.attempt, time.monotonic()))
            if job.attempt == 1:
                raise Unavailable(retry_after=0.3)

        add(queue)
        with working(queue, {"k": fail_once}, failures):
            eventually(lambda: state(queue) == "done")
        assert [attempt for attempt, _ in tried] == [1, 2]
        assert tried[1][1] - tried[0][1] >= 0.3
        assert failures == []

    def test_gives_up_when_the_attempts_are_used_up(self, queue):
        failures = []

        def fail(job):
            raise Unavailable("still away", retry_after=0.01)

        add(queue, max_attempts=2)
        with working(queue, {"k": fail}, failures):
            eventually(lambda: state(queue) == "failed")
        [(job, error)] = failures
        assert (job.attempt, str(error)) == (2, "still away")

    def test_ends_a_job_with_any_other_error_at_once(self, queue):
        failures = []

        def fail(job):
            raise Invalid("no such column")

        add(queue)
        with working(queue, {"k": fail}, failures):
            eventually(lambda: state(queue) == "failed")
        [(job, error)] = failures
        assert (job.ref, job.attempt, error.detail) == ("r", 1, "no such column")
        assert rows(queue)[0].error == "Invalid: no such column"

    @pytest.mark.parametrize("defect", [Unavailable(), LookupError("a defect")])
    def test_survives_a_callback_that_fails(self, queue, defect):
        told = []

        def on_failure(job, error):
            told.append(error)
            if len(told) == 1:
                raise defect

        def fail(job):
            raise Invalid("no")

        add(queue)
        worker = Worker({"tests": queue}, {"k": fail}, on_failure, slots=1, poll=0.02)
        thread = threading.Thread(target=worker.run)
        thread.start()
        eventually(lambda: state(queue) == "failed")
        worker.drain()
        thread.join(SECONDS)
        assert len(told) == (2 if defect.__class__ is Unavailable else 1)

    def test_buries_a_job_whose_workers_all_died(self, queue):
        failures, ran = [], []
        add(queue, max_attempts=1)
        claims(queue).claim("k")
        with working(queue, {"k": ran.append}, failures, lease=0.3):
            eventually(lambda: state(queue) == "failed")
        [(job, error)] = failures
        assert (job.attempt, type(error), ran) == (2, LostWorker, [])

    def test_a_dead_worker_s_job_holds_up_no_other(self, queue):
        order = []
        add(queue, "dead")
        claims(queue).claim("k")
        add(queue, "next")
        with working(queue, {"k": lambda job: order.append((job.ref, job.attempt))}, slots=1):
            eventually(lambda: len(rows(queue, state="done")) == 2)
        assert order == [("next", 1), ("dead", 2)]

    def test_gives_a_job_back_that_it_finds_no_thread_for(self, queue, monkeypatch):
        failures = [RuntimeError("can't start new thread")]
        start = threading.Thread.start

        def start_or_fail(thread):
            if "_execute" in thread.name and failures:
                raise failures.pop()
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_fail)
        add(queue)
        with working(queue, {"k": lambda job: None}, lease=1.0):
            eventually(lambda: state(queue) == "done")
        assert (failures, rows(queue)[0].attempt) == ([], 2)

    def test_shares_its_slots_over_databases(self, tmp_path):
        databases = [Database(f"sqlite:///{tmp_path}/{number}.db") for number in range(3)]
        named = {str(number): JobQueue(database) for number, database in enumerate(databases)}
        running, most = [], []

        def handle(job):
            running.append(job)
            most.append(len(running))
            time.sleep(0.05)
            running.remove(job)

        for queue in named.values():
            KernelBase.metadata.create_all(queue.database.engine)
            for number in range(4):
                add(queue, str(number))
        with working(named, {"k": handle}, slots=2):
            for queue in named.values():
                eventually(lambda queue=queue: len(rows(queue, state="done")) == 4)
        assert max(most) == 2
        for database in databases:
            database.close()

    def test_does_not_let_one_kind_wait_for_all_of_another(self, queue):
        order = []
        for number in range(10):
            add(queue, str(number), kind="many")
        add(queue, "few", kind="few")
        with working(queue, {"many": order.append, "few": order.append}, slots=1):
            eventually(lambda: len(order) == 11)
        assert [job.kind for job in order].index("few") <= 1

    def test_an_unreachable_database_does_not_hold_up_another(self, queue, tmp_path):
        ran = []
        away = Database(f"sqlite:///{tmp_path}/away.db", lock_timeout=30)
        KernelBase.metadata.create_all(away.engine)
        add(JobQueue(away), "held-up")
        with (
            outage(away.url),
            working(
                {"away": JobQueue(away), "tests": queue}, {"k": ran.append}, grace=0.1
            ) as worker,
        ):
            add(queue)
            eventually(lambda: state(queue) == "done")
            worker.drain()
        assert [job.ref for job in ran] in (["r"], ["r", "held-up"])
        away.close()


class TestOutage:
    def test_shorter_than_the_lease_is_only_logged(self, database):
        database.lock_timeout = 0.2
        impatient = Database(database.url.render_as_string(False), lock_timeout=0.2)
        queue, ran = JobQueue(impatient), []

        def handle(job):
            ran.append(job.attempt)
            time.sleep(1.5)

        add(queue)
        with working(queue, {"k": handle}, lease=4.0):
            eventually(lambda: ran)
            with outage(database.url):
                time.sleep(1.2)
            eventually(lambda: state(queue) == "done")
            add(queue, "next")
            eventually(lambda: state(queue, "next") == "done")
        assert ran == [1, 1]
        impatient.close()

    def test_longer_than_the_lease_is_no_reason_to_stop_unless_another_took_the_job(self, database):
        """A fit was thrown away whenever the database was away for longer than a lease."""
        impatient = Database(database.url.render_as_string(False), lock_timeout=0.1)
        add(JobQueue(impatient))
        job = claims(JobQueue(impatient), lease=0.3).claim("k")
        with outage(database.url):
            time.sleep(0.4)
            assert not job.should_stop()
        eventually(lambda: not job.should_stop())
        with database.write() as session:
            session.execute(update(JobRow).values(attempt=2, worker_id="another"))
        assert eventually(job.should_stop)
        impatient.close()


@contextlib.contextmanager
def outage(url):
    """A real one: SQLite locked by somebody else, Postgres without connections for a while."""
    if url.get_backend_name() == "sqlite":
        with contextlib.closing(sqlite3.connect(url.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false"))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(cut), {"name": url.database})
        yield
        connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true"))
    admin.dispose()


class TestDrain:
    def test_interrupts_handlers_and_hands_their_jobs_back_without_counting(self, queue):
        started = threading.Event()

        def handle(job):
            started.set()
            while True:
                job.check()
                time.sleep(0.01)

        add(queue)
        with working(queue, {"k": handle}):
            started.wait(SECONDS)
        [row] = rows(queue)
        assert (row.state, row.attempt, row.excused) == ("queued", 1, 1)

    def test_calls_again_later_whoever_steps_aside_and_counts_no_attempt(self, queue):
        attempts = []

        def handle(job):
            attempts.append((job.attempt, job.tries_left))
            if len(attempts) < 4:
                raise Later(0.01, "something else goes on")

        add(queue, max_attempts=2)
        with working(queue, {"k": handle}):
            eventually(lambda: rows(queue)[0].state == "done")
        assert [attempt for attempt, _ in attempts] == [1, 2, 3, 4]
        assert len({left for _, left in attempts}) == 1

    def test_hands_back_what_does_not_end_in_time(self, queue):
        started, may_end, told = threading.Event(), threading.Event(), []

        def handle(job):
            started.set()
            may_end.wait(SECONDS)
            told.append(job.still_mine())

        add(queue)
        with working(queue, {"k": handle}, grace=0.1):
            started.wait(SECONDS)
        [row] = rows(queue)
        assert (row.state, row.excused) == ("queued", 1)
        may_end.set()
        assert eventually(lambda: told) == [False]
        assert state(queue) == "queued"

    def test_lets_a_handler_end_that_is_nearly_done(self, queue):
        started = threading.Event()

        def handle(job):
            started.set()
            time.sleep(0.2)

        add(queue)
        with working(queue, {"k": handle}):
            started.wait(SECONDS)
        assert state(queue) == "done"

    def test_leaves_an_interruption_without_reason_to_count(self, queue):
        def handle(job):
            raise Interrupted

        failures = []
        add(queue, max_attempts=1)
        with working(queue, {"k": handle}, failures):
            eventually(lambda: state(queue) == "failed")
        assert len(failures) == 1


@pytest.fixture(scope="module")
def forker():
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, job_process.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


class WorkerProcess:
    def __init__(self, forker, output, *settings):
        output.touch()
        forker.stdin.write(json.dumps([str(output), *settings]) + "\n")
        forker.stdin.flush()
        self.pid = int(forker.stdout.readline())
        self._output = output
        self._lines_read = 0

    def next_line(self):
        """What it says next."""
        return eventually(self._unread)

    def _unread(self):
        *lines, _ = self._output.read_text().split("\n")
        unread = lines[self._lines_read :]
        self._lines_read += bool(unread)
        return unread[0] if unread else None

    def send(self, number):
        os.kill(self.pid, number)

    def has_ended(self):
        return not psutil.pid_exists(self.pid)


@pytest.fixture
def start_worker(forker, database, tmp_path):
    started = []

    def start(lease=1.0, slots=2):
        url = database.url.render_as_string(False)
        output = tmp_path / f"worker-{len(started)}"
        started.append(WorkerProcess(forker, output, url, lease, slots))
        return started[-1]

    yield start
    for worker in started:
        with contextlib.suppress(ProcessLookupError):
            worker.send(signal.SIGKILL)
        eventually(worker.has_ended)


class TestProcesses:
    def test_share_a_queue_and_do_everything_once(self, queue, start_worker):
        for number in range(30):
            add(queue, str(number), kind="quick")
        for _ in range(3):
            start_worker()
        eventually(lambda: len(rows(queue, state="done")) == 30)
        done = effects_of(queue.database)
        assert sorted(done) == sorted((str(number), 1) for number in range(30))

    @pytest.mark.fault("F19")
    def test_that_start_at_once_do_no_job_twice(self, queue, start_worker):
        for turn in range(rounds(quick=1, full=25)):
            refs = [f"{turn}-{number}" for number in range(8)]
            for ref in refs:
                add(queue, ref, kind="quick")
            pair = [start_worker() for _ in range(2)]
            eventually(lambda: queue.depth() == {} and not rows(queue, state="running"))
            done = [ref for ref, _ in effects_of(queue.database) if ref.startswith(f"{turn}-")]
            assert sorted(done) == sorted(refs)
            for worker in pair:
                worker.send(signal.SIGTERM)
                eventually(worker.has_ended)

    def test_work_while_many_submit(self, queue, start_worker):
        others = [Database(queue.database.url.render_as_string(False)) for _ in range(4)]
        for _ in range(2):
            start_worker()

        def submit(number):
            for turn in range(15):
                assert add(JobQueue(others[number]), f"{number}-{turn}", kind="quick")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(submit, range(4)))
        eventually(lambda: len(rows(queue, state="done")) == 60)
        assert len(effects_of(queue.database)) == len(set(effects_of(queue.database))) == 60
        for other in others:
            other.close()

    @pytest.mark.fault("F3")
    def test_take_over_from_one_that_was_killed(self, queue, start_worker):
        first = start_worker()
        add(queue, "0.5", kind="slow")
        assert first.next_line() == "started 0.5 1"
        first.send(signal.SIGKILL)
        killed = time.monotonic()
        start_worker()
        add(queue, "0", kind="slow")
        eventually(lambda: state(queue, "0") == "done")
        eventually(lambda: state(queue, "0.5") == "done")
        # a lease of 1 s, a poll of 0.2 s, 0.5 s of work
        assert time.monotonic() - killed < 20
        assert sorted(effects_of(queue.database)) == [("0", 1), ("0.5", 2)]

    @pytest.mark.fault("F6")
    def test_fence_one_that_was_stopped_past_its_lease(self, queue, start_worker):
        first = start_worker()
        add(queue, "0.5", kind="deaf")
        assert first.next_line() == "started 0.5 1"
        first.send(signal.SIGSTOP)
        second = start_worker()
        assert second.next_line() == "started 0.5 2"
        eventually(lambda: state(queue, "0.5") == "done")
        first.send(signal.SIGCONT)
        assert first.next_line() == "fenced 0.5 1"
        assert effects_of(queue.database) == [("0.5", 2)]

    def test_hand_their_jobs_back_at_sigterm(self, queue, start_worker):
        worker = start_worker()
        add(queue, "60", kind="slow")
        assert worker.next_line() == "started 60 1"
        worker.send(signal.SIGTERM)
        assert worker.next_line() == "drained"
        eventually(worker.has_ended)
        [row] = rows(queue)
        assert (row.state, row.excused, row.worker_id) == ("queued", 1, None)

    @pytest.mark.fault("F3")
    def test_leave_no_child_behind_and_begin_anew(self, queue, start_worker):
        first = start_worker()
        add(queue, kind="sandboxed")
        computing, attempt, child = first.next_line().split()
        assert (computing, attempt) == ("computing", "1")
        second = start_worker()
        first.send(signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(int(child)))
        computing, attempt, child = second.next_line().split()
        assert (computing, attempt) == ("computing", "2")
        second.send(signal.SIGTERM)
        assert second.next_line() == "drained"
        assert not psutil.pid_exists(int(child))
        assert (state(queue), rows(queue)[0].excused) == ("queued", 1)

    @pytest.mark.fault("F3")
    def test_that_all_die_over_a_job_leave_it_failed(self, queue, start_worker):
        add(queue, "60", kind="slow", max_attempts=2)
        for attempt in (1, 2):
            worker = start_worker(lease=0.5)
            assert worker.next_line() == f"started 60 {attempt}"
            worker.send(signal.SIGKILL)
            eventually(worker.has_ended)
        assert start_worker(lease=0.5).next_line() == "failed 60 LostWorker"
        eventually(lambda: state(queue, "60") == "failed")


class TestSlotBoard:
    @given(
        st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True),
        st.integers(1, 5),
    )
    def test_gives_equal_shares_to_kinds_that_always_want_more(self, kinds, slots):
        board = SlotBoard(slots)
        given_out = dict.fromkeys(kinds, 0)
        for _ in range(slots * len(kinds)):
            board.offer("one", kinds)
            kind = board.take("one")
            given_out[kind] += 1
            board.exchange(kind, None)
        assert max(given_out.values()) - min(given_out.values()) <= 1

    @given(st.integers(1, 5), st.integers(0, 10))
    def test_never_gives_out_more_than_it_has(self, slots, asked):
        board = SlotBoard(slots)
        taken = 0
        for _ in range(asked):
            board.offer("one", ["a", "b"])
            taken += board.take("one") is not None
        assert taken == min(slots, asked)

    def test_a_database_whose_turn_it_is_not_gets_none(self):
        board = SlotBoard(2)
        board.offer("one", ["a"])
        board.offer("two", ["b"])
        assert (board.take("two"), board.take("one")) == (None, "a")
        assert board.take("two") == "b"

    def test_a_withdrawn_offer_holds_up_nobody(self):
        board = SlotBoard(1)
        board.offer("one", ["a"])
        board.offer("two", ["b"])
        board.offer("one", [])
        assert board.take("two") == "b"
