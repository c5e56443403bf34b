"""Runs whose worker dies when their version is registered and they haven't ended yet."""

import pytest

from app.kernel.long_work.handler import Attempt
from tests.training.running import PATH

QUICK = {"name": "LogisticRegression"}
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # the threads that vanish
)


@pytest.fixture
def dying(monkeypatch):
    """``dying(step, act)``: the next worker thread that gets to a step acts and vanishes."""

    def prepare(step, act=lambda _attempt: None):
        usual = getattr(Attempt, step)

        def vanish(attempt, *arguments, **options):
            monkeypatch.setattr(Attempt, step, usual)
            act(attempt)
            raise SystemExit

        monkeypatch.setattr(Attempt, step, vanish)

    return prepare


def assert_succeeded_once(running, run):
    """The run succeeded and is the maker of the only version."""
    assert (run["state"], run["model_version"]) == ("succeeded", 1), run
    assert run["metrics"]["accuracy"] > 0
    events = running.client().get(f"{PATH}/{run['id']}/events").json["items"]
    assert [event["type"] for event in events].count("succeeded") == 1
    [version] = running.client().get("/api/v1/models/penguins/versions").json["items"]
    assert version["lineage"]["training_run"] == run["id"]


def test_a_cancel_after_the_registration_comes_too_late(running, sandbox, dying):
    """The worker died between the two; the run was then cancelled, and its version served."""

    def cancel(attempt):
        answer = running.client().post(f"{PATH}/{attempt.row.id}/cancel")
        assert answer.status_code == 202

    dying("succeed", cancel)
    with running.working(sandbox, lease=0.6):
        run = running.ended(running.submit(estimator=QUICK))
    assert_succeeded_once(running, run)


def test_a_run_whose_last_worker_dies_after_the_registration_has_succeeded(running, sandbox, dying):
    """All attempts were used up: the run had failed as lost_worker, with a version of its own."""
    deaths = []

    def die_again(_attempt):
        deaths.append("run_child")
        dying("run_child" if len(deaths) < 2 else "succeed", die_again)

    dying("run_child", die_again)
    with running.working(sandbox, lease=0.6):
        run = running.ended(running.submit(estimator=QUICK))
    assert len(deaths) == 3
    assert_succeeded_once(running, run)


def test_a_run_that_dies_before_the_registration_is_made_again(sqlite_running, sandbox, dying):
    dying("keep")
    with sqlite_running.working(sandbox, lease=0.6):
        run = sqlite_running.ended(sqlite_running.submit(estimator=QUICK))
    assert run["attempt"] == 2
    assert_succeeded_once(sqlite_running, run)
