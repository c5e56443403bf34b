"""Workers die, hang and come back late: every run still ends once, with one version."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from app.housekeeping import do_chores, sweeps
from app.kernel import faults
from tests.faults.rounds import rounds
from tests.faults.workers import eventually
from tests.training.running import PATH, Running

QUICK = {"name": "LogisticRegression"}
FOREST = {"name": "RandomForestClassifier", "params": {"n_estimators": 3000}}
MOMENTS = ["runs.artifacts_stored", "runs.version_registered", "jobs.handled"]


class Recovering(Running):
    """A yard that trains, by workers of this process or of others."""

    def __init__(self, home, database_url=""):
        super().__init__(home, database_url)
        sockets = Path(tempfile.mkdtemp(prefix="my-"))
        (self.settings.instance / "sockets").write_text(str(sockets))

    def told(self, run):
        return self.client().get(f"{PATH}/{run}").json

    def events(self, run):
        return self.client().get(f"{PATH}/{run}/events").json["items"]

    def attempts(self, run):
        """The numbers of the attempts that began."""
        return [e["data"]["attempt"] for e in self.events(run) if e["type"] == "running"]

    def until_step(self, run, step, attempt=1):
        """Wait until an attempt is that far."""

        def look():
            told = self.told(run)
            return (told["attempt"], told["progress"]["step"]) == (attempt, step)

        eventually(look)

    def assert_one_version(self, run):
        """The run ended well, once, and made one version, whose bytes are all that is kept."""
        assert [e["type"] for e in self.events(run)].count("succeeded") == 1
        client = self.client()
        [version] = client.get("/api/v1/models/penguins/versions").json["items"]
        assert self.told(run)["model_version"] == version["version"] == 1
        for item in self.wiring.store.list("default/models"):
            os.utime(self.settings.home / "models_store" / item.key, (0, 0))
        self.wiring.models.collector.run()
        artifacts = client.get("/api/v1/models/penguins/versions/1").json["artifacts"]
        kept = list(self.wiring.store.list("default/models"))
        assert len(kept) == len(artifacts)
        for artifact in artifacts:
            path = f"/api/v1/models/penguins/versions/1/artifacts/{artifact['format']}"
            assert client.get(path).status_code == 200

    def work(self):
        """What attempts have left in the work folders."""
        return list((self.settings.instance / "work").glob("*/*"))


@pytest.fixture
def recovering(tmp_path):
    made = Recovering(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request, tmp_path, workers):
    """For workers of other processes, which end first."""
    url = request.getfixturevalue("postgres_url")() if request.param == "postgresql" else ""
    made = Recovering(tmp_path / "home", url)
    yield made
    workers.end()
    made.close()


@pytest.mark.fault("F4")
@pytest.mark.fault("F5")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_thread_that_vanishes_at_each_moment_in_turn_doubles_nothing(
    recovering, sandbox, monkeypatch
):
    vanished = []

    def vanish(point):
        if MOMENTS[len(vanished) :][:1] == [point]:
            vanished.append(point)
            raise SystemExit

    monkeypatch.setattr(faults, "hit", vanish)
    with recovering.working(sandbox, lease=0.6):
        run = recovering.ended(recovering.submit(estimator=QUICK))
        # The second had registered the version: the third finds the run done, and begins nothing.
        eventually(lambda: _job_states(recovering) == ["failed"])
    assert (vanished, run["state"], recovering.attempts(run["id"])) == (
        MOMENTS,
        "succeeded",
        [1, 2],
    )
    recovering.assert_one_version(run["id"])


@pytest.mark.fault("F3")
@pytest.mark.fault("F4")
@pytest.mark.fault("F5")
@pytest.mark.slow
@pytest.mark.long
def test_killed_at_each_moment_in_turn_a_run_still_makes_one_version(shared, workers):
    answer = shared.submit(estimator=QUICK)
    run = answer.json["id"]
    for number, moment in enumerate(MOMENTS):
        worker = workers.start(shared, f"{moment}=kill@1")
        eventually(worker.has_ended)
        # The second registers the version: the third finds the run done, and begins nothing.
        assert shared.attempts(run)[-1] == min(number + 1, 2)
    workers.start(shared)
    assert shared.ended(answer)["state"] == "succeeded"
    eventually(lambda: _job_states(shared) == ["failed"])
    shared.assert_one_version(run)


def _job_states(yard):
    with yard.wiring.database("training").read() as session:
        return [row[0] for row in session.connection().exec_driver_sql(_STATES)]


_STATES = "SELECT state FROM kernel_jobs WHERE kind = 'training_run'"


@pytest.mark.fault("F3")
@pytest.mark.slow
@pytest.mark.long
def test_a_killed_worker_s_run_is_taken_over_in_under_ten_seconds(shared, workers):
    for _ in range(rounds(quick=1, full=3)):
        answer = shared.submit(dataset="many", estimator=FOREST)
        run = answer.json["id"]
        first = workers.start(shared, lease_seconds=6)
        shared.until_step(run, "fit")
        second = workers.start(shared, lease_seconds=6)
        idle = shared.submit(estimator=QUICK)
        shared.ended(idle)
        family = first.family()
        first.send(signal.SIGKILL)
        killed = time.monotonic()
        eventually(lambda run=run: shared.attempts(run) == [1, 2])
        assert time.monotonic() - killed < 10
        assert not any(process.is_running() for process in family)
        assert shared.client().post(f"{PATH}/{run}/cancel").status_code == 202
        assert shared.ended(answer)["state"] == "cancelled"
        second.kill()


@pytest.mark.fault("F6")
@pytest.mark.slow
@pytest.mark.long
def test_a_stopped_worker_s_run_is_taken_over_and_the_late_one_is_fenced(shared, workers):
    late = workers.start(shared, "runs.artifacts_stored=sleep:4@1", lease_seconds=6)
    answer = shared.submit(estimator=QUICK)
    run = answer.json["id"]
    eventually(lambda: list(shared.wiring.store.list("default/models")))
    workers.start(shared, lease_seconds=6)
    late.send(signal.SIGSTOP)
    stopped = time.monotonic()
    eventually(lambda: shared.attempts(run) == [1, 2])
    taken = time.monotonic() - stopped
    assert shared.ended(answer)["attempt"] == 2
    late.send(signal.SIGCONT)
    eventually(lambda: "job_fenced" in late.log())
    shared.assert_one_version(run)
    assert shared.told(run)["attempt"] == 2
    assert taken < 30  # 6 s of lease, and the other's start


@pytest.mark.fault("F3")
@pytest.mark.slow
@pytest.mark.long
def test_a_run_whose_workers_all_die_has_failed_with_lost_worker(shared, workers):
    answer = shared.submit(dataset="many", estimator=FOREST)
    run = answer.json["id"]
    for attempt in (1, 2, 3):
        worker = workers.start(shared)
        shared.until_step(run, "fit", attempt)
        worker.kill()
    workers.start(shared)
    told = shared.ended(answer)
    assert (told["state"], told["error"]["code"]) == ("failed", "lost_worker")
    assert told["error"]["retryable"] is True
    after = shared.ended(shared.submit(estimator=QUICK))
    assert (after["state"], after["attempt"]) == ("succeeded", 1)


@pytest.mark.fault("F3")
@pytest.mark.slow
@pytest.mark.long
def test_nothing_of_a_killed_worker_stays(shared, workers):
    answer = shared.submit(dataset="many", estimator=FOREST)
    worker = workers.start(shared)
    shared.until_step(answer.json["id"], "fit")
    family = worker.family()
    assert len(family) >= 2
    worker.kill()
    eventually(lambda: not any(process.is_running() for process in family))
    assert len(shared.work()) == 1
    [folder] = shared.work()
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (0, 0))
    do_chores(sweeps(shared.wiring))
    assert shared.work() == []


@pytest.mark.fault("F18")
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("days", [1, -1])
def test_workers_whose_clocks_are_days_apart_take_over_from_one_another(shared, workers, days):
    answer = shared.submit(dataset="many", estimator=FOREST)
    run = answer.json["id"]
    first = workers.start(shared, ahead=days * 86_400)
    shared.until_step(run, "fit")
    workers.start(shared, ahead=-days * 86_400)
    quick = shared.ended(shared.submit(estimator=QUICK))
    assert (quick["state"], quick["attempt"]) == ("succeeded", 1)
    assert shared.attempts(run) == [1]
    first.kill()
    shared.until_step(run, "fit", attempt=2)
    assert shared.client().post(f"{PATH}/{run}/cancel").status_code == 202
    assert shared.ended(answer)["state"] == "cancelled"
