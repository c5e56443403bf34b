"""Work whose job is gone used to stay as it was for ever: it ends, and says why."""

import pytest
from sqlalchemy import delete, update

from app.housekeeping import chores, do_chores
from app.kernel.jobs.queue import JobRow
from app.kernel.sql import utc_now
from app.training.tables import TrainingRun
from tests.training.running import PATH, Running

GONE = [
    delete(JobRow),
    update(JobRow).values(state="failed", finished_at=utc_now()),
    update(JobRow).values(state="done", finished_at=utc_now()),
]


@pytest.fixture
def running(tmp_path, database_url):
    made = Running(tmp_path / "home", database_url)
    yield made
    made.close()


@pytest.mark.fault("F3")
def test_a_run_whose_job_is_gone_or_has_ended_is_ended_and_others_are_not(running):
    for change in GONE:
        lost = running.submit().json["id"]
        with running.wiring.database("training").write() as session:
            session.execute(change.where(JobRow.ref == lost))
        waits = running.submit().json["id"]
        for _ in range(2):
            do_chores(chores(running.wiring))
        told = running.client().get(f"{PATH}/{lost}").json
        assert (told["state"], told["error"]["code"]) == ("failed", "lost_worker")
        assert told["error"]["retryable"] is True
        assert running.client().get(f"{PATH}/{waits}").json["state"] == "queued"


def test_a_run_that_was_cancelled_meanwhile_ends_as_cancelled(running):
    run = running.submit().json["id"]
    database = running.wiring.database("training")
    with database.write() as session:
        session.execute(update(JobRow).values(state="running"))
        session.execute(update(TrainingRun).values(stored_state="running", attempt=1))
    assert running.client().post(f"{PATH}/{run}/cancel").json["state"] == "cancelling"
    with database.write() as session:
        session.execute(delete(JobRow))
    do_chores(chores(running.wiring))
    assert running.client().get(f"{PATH}/{run}").json["state"] == "cancelled"
