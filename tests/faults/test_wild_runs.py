"""Runs and batches whose processes go wild: each ends in its own named way, beside others."""

import threading
import time

import psutil
import pytest

from app.kernel.sandbox.parent import Limits
from app.predictions.ports import HeldDataset
from app.training import workers
from tests.faults import wild_children
from tests.faults.forged import FAR_AWAY, ITSELF, forged
from tests.predictions.predicting import Predicting
from tests.training.running import TYPES, Running

BOUNDS = {"memory_bytes": 256_000_000, "wall_seconds": 120}
NAMED = {
    wild_children.take_memory: "memory_limit",
    wild_children.segfault: "native_crash",
    wild_children.loop: "time_limit",
    wild_children.fork_without_end: "fit_error",
    wild_children.write_ten_gigabytes: "storage_full",
    wild_children.be_killed: "lost_worker",
}
WELL = (wild_children.behave, wild_children.print_without_end, wild_children.be_killed_once)
ANSWER_SECONDS = 10.0
"""For any of the neighbours' requests; milliseconds on a quiet machine."""


class Wild(Running):
    """A yard whose datasets batches can use too."""

    def __init__(self, home, **settings):
        super().__init__(home, **settings)
        self.wiring.batches._datasets = self

    def hold(self, call, dataset, version, *, holder, seconds):
        """The datasets service as batches see it."""
        held = self.datasets.versions[dataset]
        columns = [{"name": name, "type": kind, "missing": 0} for name, kind in TYPES.items()]
        return HeldDataset(dataset, 1, columns, held.storage)

    def release(self, call, held, *, holder):
        """Nothing is held."""

    def ask_for(self, way):
        """A run that goes wild in that way."""
        limits = {**BOUNDS, "wall_seconds": 2} if way is wild_children.loop else BOUNDS
        return self.submit(
            random_state=wild_children.WAYS.index(way),
            estimator={"name": "LogisticRegression"},
            limits=limits,
        )

    def batch_by(self, next_node):
        """A batch prediction by a forged model."""
        name = f"forged-{next_node}"
        Predicting.put(self, name, forged(next_node))
        body = {"model": f"{name}/1", "dataset": "penguins"}
        return self.client().post("/api/v1/batch-predictions", json=body)


@pytest.fixture(scope="module")
def told(sandbox, tmp_path_factory):
    """All kinds of wild runs at once, among others that aren't: what became of each, by its way."""
    yard = Wild(tmp_path_factory.mktemp("wild"))
    with pytest.MonkeyPatch.context() as patched, yard.working(sandbox):
        patched.setattr(workers, "_FIT", f"{wild_children.__name__}:fit")
        first = yard.ended(yard.ask_for(wild_children.behave))
        assert first["state"] == "succeeded", first
        with asked_meanwhile(yard):
            asked = {way: yard.ask_for(way) for way in (*NAMED, *WELL)}
            batch = yard.batch_by(FAR_AWAY)
            ended = {way: yard.ended(answer, 300) for way, answer in asked.items()}
            ended["batch"] = yard.ended(batch)
    yield {**ended, "yard": yard, "sandbox": sandbox}
    yard.close()


class asked_meanwhile:  # noqa: N801 - reads as what it does
    """A client who asks for a prediction and whether the server lives, all the time."""

    def __init__(self, yard):
        self._yard = yard
        self._stop = threading.Event()
        self._faults = []
        self._asked = 0

    def _ask(self):
        client = self._yard.client()
        body = {"inputs": [{"mass": 4000, "island": "Dream", "when": "2020-01-01T00:00:00Z"}]}
        while not self._stop.is_set():
            started = time.monotonic()
            for answer in (
                client.get("/livez"),
                client.post("/api/v1/models/penguins/predict?version=1", json=body),
            ):
                if answer.status_code != 200:
                    self._faults.append(answer.text)
            if (needed := time.monotonic() - started) > ANSWER_SECONDS:
                self._faults.append(needed)
            self._asked += 1
            self._stop.wait(0.2)

    def __enter__(self):
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        assert self._asked
        assert self._faults == []


@pytest.mark.fault("F26")
@pytest.mark.parametrize("way", NAMED, ids=lambda way: way.__name__)
def test_a_wild_run_ends_by_its_name_while_predictions_are_answered(told, way):
    run = told[way]
    assert (run["state"], run["error"]["code"]) == ("failed", NAMED[way]), run["error"]
    assert run["attempt"] == (3 if way is wild_children.be_killed else 1)
    assert run["error"]["retryable"] is (NAMED[way] in ("lost_worker", "storage_full"))


@pytest.mark.fault("F26")
def test_a_run_beside_them_succeeds(told):
    run = told[wild_children.behave]
    assert (run["state"], run["attempt"]) == ("succeeded", 1), run["error"]


@pytest.mark.fault("F26")
def test_a_run_that_is_killed_from_outside_is_tried_again(told):
    run = told[wild_children.be_killed_once]
    assert (run["state"], run["attempt"]) == ("succeeded", 2), run["error"]
    path = f"/api/v1/training-runs/{run['id']}/events"
    kinds = [event["type"] for event in told["yard"].client().get(path).json["items"]]
    states = [kind for kind in kinds if kind != "progress"]
    assert states == ["queued", "running", "queued", "running", "succeeded"]


@pytest.mark.fault("F26")
def test_of_endless_output_the_first_megabyte_is_kept(told):
    run = told[wild_children.print_without_end]
    assert run["state"] == "succeeded", run["error"]
    log = told["yard"].client().get(f"/api/v1/training-runs/{run['id']}/log").text
    assert log.startswith("xxx")
    most = Limits(1, 1, None, 1).log_bytes
    # Each of the run's three processes may print as much.
    assert most / 2 < len(log) < 3 * most + 1000


@pytest.mark.fault("F26")
def test_a_batch_whose_model_crashes_is_a_native_crash(told):
    batch = told["batch"]
    assert (batch["state"], batch["error"]["code"]) == ("failed", "native_crash"), batch["error"]


@pytest.mark.fault("F26")
def test_no_process_of_theirs_is_left(told):
    helper = psutil.Process(told["sandbox"].warm())
    assert psutil.wait_procs(helper.children(recursive=True), timeout=60)[1] == []


@pytest.mark.slow
@pytest.mark.fault("F26")
def test_a_batch_whose_model_never_answers_ends_by_its_time(sandbox, tmp_path):
    yard = Wild(tmp_path, max_wall_seconds="3")
    with yard.working(sandbox):
        batch = yard.ended(yard.batch_by(ITSELF))
    assert (batch["state"], batch["error"]["code"]) == ("failed", "time_limit"), batch["error"]
    yard.close()
