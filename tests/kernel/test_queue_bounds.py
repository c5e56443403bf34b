"""How much work may wait: of a project, of all together, and what the refused are told."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from app.kernel.errors import TooManyRequests, Unavailable
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.jobs.queue import JobRow
from app.kernel.sql import Database, KernelBase

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def queue(database_url):
    database = Database(database_url, lock_timeout=20)
    KernelBase.metadata.create_all(database.engine)
    clock = SimpleNamespace(now=lambda: NOW)
    yield BoundedQueue(database, of_project=2, in_all=3, clock=clock)
    database.close()


def add(queue, *projects, kind="k"):
    with queue.database.write() as session:
        for number, project in enumerate(projects):
            queue.enqueue(session, kind, f"{kind}-{project}-{number}", project=project)


def ended(queue, *ages, state="done", kind="k"):
    """Jobs that ended so many seconds ago."""
    add(queue, *(f"ended-{age}-{state}" for age in ages), kind=kind)
    with queue.database.write() as session:
        for age in ages:
            row = update(JobRow).where(JobRow.project == f"ended-{age}-{state}")
            at = NOW - timedelta(seconds=age)
            session.execute(row.values(state=state, finished_at=at))


def admitted(queue, project, kind="k"):
    with queue.database.write() as session:
        queue.admit(session, kind, project)


def test_a_project_over_its_bound_is_429_and_others_are_not(queue):
    add(queue, "p", "p")
    with pytest.raises(TooManyRequests) as refused:
        admitted(queue, "p")
    assert refused.value.extra == {"limit": 2}
    admitted(queue, "q")
    admitted(queue, "p", kind="other")


def test_all_projects_over_the_bound_of_all_are_503(queue):
    add(queue, "p", "q", "r")
    for project in ("p", "new"):
        with pytest.raises(Unavailable) as refused:
            admitted(queue, project)
        assert refused.value.extra == {"limit": 3}
    admitted(queue, "p", kind="other")


def test_the_pause_is_reckoned_from_how_fast_jobs_ended_of_late(queue):
    """Of four in a minute the next ends in fifteen seconds; what was cancelled was no work."""
    add(queue, "p", "p")
    ended(queue, 5, 20, 30, 60)
    ended(queue, 1, 2, state="cancelled")
    ended(queue, 3, 4, kind="other")
    with pytest.raises(TooManyRequests) as refused:
        admitted(queue, "p")
    assert refused.value.retry_after == pytest.approx(15)


def test_of_more_than_the_bound_all_must_go_first(queue):
    add(queue, "p", "p", "p", "q")
    ended(queue, 10, 20)
    with pytest.raises(TooManyRequests) as refused:
        admitted(queue, "p")
    assert refused.value.retry_after == pytest.approx(20)
    with pytest.raises(Unavailable) as refused:
        admitted(queue, "q")
    assert refused.value.retry_after == pytest.approx(20)


@pytest.mark.parametrize(("ages", "pause"), [((), 10), ((7200,), 10), ((0.01,), 1), ((3000,), 300)])
def test_the_pause_is_told_where_nothing_is_known_and_is_never_absurd(queue, ages, pause):
    add(queue, "p", "p")
    ended(queue, *ages)
    with pytest.raises(TooManyRequests) as refused:
        admitted(queue, "p")
    assert refused.value.retry_after == pytest.approx(pause)
