"""How runs end, with a real worker and real children: each in its own named way."""

import time

import pytest

from app.kernel.errors import Unavailable
from app.training.peers import ModelsPeer
from tests.training.running import PATH

FOREST = {"name": "RandomForestClassifier", "params": {"n_estimators": 5000}}


def test_a_run_makes_a_version_that_tells_where_it_comes_from(running, sandbox):
    with running.working(sandbox):
        run = running.ended(running.submit(estimator={"name": "LogisticRegression"}))

    assert run["state"] == "succeeded", run
    assert run["metrics"]["accuracy"] > run["baseline"]["accuracy"]
    version = running.client().get("/api/v1/models/penguins/versions/1").json
    assert version["lineage"]["training_run"] == run["id"]
    assert version["lineage"]["random_state"] == 42
    assert version["serving"]["engine"] == "compiled"
    assert {"joblib", "compiled"} <= {item["format"] for item in version["artifacts"]}
    kinds = [e["type"] for e in running.client().get(f"{PATH}/{run['id']}/events").json["items"]]
    assert kinds[:2] == ["queued", "running"]
    assert kinds[-1] == "succeeded"


def test_the_same_request_again_gives_the_same_metrics(sqlite_running, sandbox):
    with sqlite_running.working(sandbox):
        runs = [sqlite_running.ended(sqlite_running.submit(random_state=7)) for _ in range(2)]

    assert runs[0]["metrics"] == runs[1]["metrics"]
    assert [run["model_version"] for run in runs] == [1, 2]


def test_a_running_fit_is_cancelled_within_seconds(running, sandbox):
    with running.working(sandbox):
        answer = running.submit(dataset="many", estimator=FOREST)
        path = answer.headers["Location"]
        until = time.monotonic() + 60
        while running.client().get(path).json["progress"]["step"] != "fit":
            assert time.monotonic() < until
            time.sleep(0.05)
        asked = time.monotonic()
        assert running.client().post(f"{path}/cancel").json["state"] == "cancelling"
        run = running.ended(answer)

    assert run["state"] == "cancelled"
    assert time.monotonic() - asked < 15


def test_a_fit_over_its_time_ends_as_time_limit(sqlite_running, sandbox):
    with sqlite_running.working(sandbox):
        answer = sqlite_running.submit(dataset="many", estimator=FOREST, limits={"wall_seconds": 2})
        run = sqlite_running.ended(answer)

    assert (run["state"], run["error"]["code"]) == ("failed", "time_limit"), run["error"]


def test_data_that_make_no_model_end_as_fit_error(sqlite_running, sandbox):
    with sqlite_running.working(sandbox):
        run = sqlite_running.ended(
            sqlite_running.submit(
                target="mass", task="classification", estimator={"name": "LogisticRegression"}
            )
        )

    assert (run["state"], run["error"]["code"]) == ("failed", "fit_error")
    assert "Traceback" not in run["error"]["detail"]


def test_a_worker_that_stops_hands_its_run_back(running, sandbox):
    answer = running.submit(dataset="many", estimator=FOREST)
    with running.working(sandbox) as worker:
        until = time.monotonic() + 60
        while running.client().get(answer.headers["Location"]).json["state"] != "running":
            assert time.monotonic() < until
            time.sleep(0.05)
        worker.drain()

    run = running.client().get(answer.headers["Location"]).json
    assert run["state"] == "queued"
    kinds = [e["type"] for e in running.client().get(f"{PATH}/{run['id']}/events").json["items"]]
    assert kinds[-1] == "queued"


def test_events_are_streamed_and_resumed(sqlite_running, sandbox):
    with sqlite_running.working(sandbox):
        answer = sqlite_running.submit(estimator={"name": "LogisticRegression"})
        run = sqlite_running.ended(answer)
    path = f"{PATH}/{run['id']}/events"
    accept = {"Accept": "text/event-stream"}

    whole = sqlite_running.client().get(path, headers=accept).text
    rest = sqlite_running.client().get(path, headers={**accept, "Last-Event-ID": "2"}).text

    assert "event: queued" in whole
    assert "event: succeeded" in whole
    assert "event: queued" not in rest
    assert "event: succeeded" in rest
    bad = sqlite_running.client().get(path, headers={**accept, "Last-Event-ID": "x"})
    assert bad.status_code == 422


@pytest.mark.fault("F9")
def test_an_outage_at_the_very_end_costs_no_attempt(sqlite_running, sandbox, monkeypatch):
    """Registering a version gave up at once, and the whole fit was made again."""
    register, calls = ModelsPeer.register, []

    def away_at_first(*arguments):
        calls.append(arguments)
        if len(calls) < 3:
            raise Unavailable("The service models can't be reached")
        return register(*arguments)

    monkeypatch.setattr(ModelsPeer, "register", away_at_first)
    with sqlite_running.working(sandbox):
        run = sqlite_running.ended(sqlite_running.submit(estimator={"name": "GaussianNB"}))
    assert (run["state"], run["attempt"], run["model_version"]) == ("succeeded", 1, 1)
