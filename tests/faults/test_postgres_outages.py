"""Postgres is killed, stopped, away for long, slow, silent or cut off, under a running server."""

import contextlib
import signal
import threading
import time

import httpx
import pytest

from tests.faults.clients import (
    RETRYABLE,
    Writers,
    assert_all_there,
    assert_told_properly,
    status,
    until,
)
from tests.faults.postgres import Line, Postgres
from tests.faults.rounds import rounds
from tests.server import NO_PROCESSORS, NO_TLS, Server, wait_for

# The first test pays for the server.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(rounds(300, 900))]
BACK_SECONDS = 30
ROWS = "\n".join(f"{i % 7},{i % 5},{'ab'[i % 7 > 3]}" for i in range(300))
ROW = {"inputs": [{"x": 1, "y": 2}]}


@pytest.fixture(scope="module")
def postgres():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def line(postgres):
    line = Line(postgres.socket)
    yield line
    line.close()


@pytest.fixture(scope="module")
def server(line, tmp_path_factory):
    environment = {
        **NO_PROCESSORS,
        "MODELYARD_DATABASE_URL": line.url,
        "MODELYARD_DATABASE_WAIT": "4",
    }
    with Server(tmp_path_factory.mktemp("home"), environment) as running:
        with running.client() as client:
            files = {"file": ("t.csv", f"x,y,kind\n{ROWS}\n".encode(), "text/csv")}
            made = client.post("/datasets", data={"name": "t"}, files=files)
            assert made.status_code == 201, made.text
            assert train(client, "known")["state"] == "succeeded"
            assert client.post("/models/known/predict", json=ROW).status_code == 200
        yield running


def submit(client, model, **estimator):
    body = {"model": model, "dataset": "t", "target": "kind"}
    chosen = estimator or {"name": "GaussianNB"}
    answer = client.post("/training-runs", json={**body, "estimator": chosen})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def train(client, model, **estimator):
    return wait_for(client, f"/training-runs/{submit(client, model, **estimator)}")


def ready(server):
    return status(f"{server.url}/readyz") == 200


@contextlib.contextmanager
def away(postgres, how):
    postgres.end(how)
    try:
        yield
    finally:
        postgres.start()


@pytest.mark.fault("F8")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT], ids=["killed", "immediate"])
def test_what_was_acknowledged_survives_a_crash_of_the_database(postgres, server, how):
    for _ in range(rounds(1, 10)):
        with Writers(server) as writers:
            until(lambda writers=writers: len(writers.acknowledged) > 20, 60)
            with away(postgres, how):
                until(lambda writers=writers: 503 in writers.statuses(), 20)
            back = time.monotonic()
            until(lambda w=writers, b=back: any(t.status == 201 for t in w.told if t.at > b), 10)
        assert writers.statuses() == {201, 503}
        assert writers.unknown == []
        assert_told_properly(told.answer for told in writers.told)
        assert_all_there(server, writers.acknowledged)


@pytest.mark.fault("F9")
def test_a_long_outage_is_named_and_what_needs_no_database_goes_on(postgres, server):
    """A key was looked up anew every two seconds: without the database nobody could predict."""
    with server.client() as admin:
        key = admin.post("/keys", json={"name": "p", "role": "predictor"}).json()["secret"]
    with server.client(key) as client:
        assert client.post("/models/known/predict", json=ROW).status_code == 200
        stored = {"model": "known", **ROW}
        with away(postgres, signal.SIGINT):
            until(lambda: not ready(server), 30)
            since = time.monotonic()
            while time.monotonic() - since < rounds(3, 60):
                told = httpx.get(f"{server.url}/readyz", verify=NO_TLS)
                assert told.status_code == 503
                assert told.json()["checks"]["database"] != "ok"
                assert told.json()["checks"]["store"] == "ok"
                assert status(f"{server.url}/livez") == 200
                predicted = client.post("/models/known/predict", json=ROW)
                assert predicted.status_code == 200, predicted.text
                refused = [client.get("/models"), client.post("/predictions", json=stored)]
                assert_told_properly(refused, (503,))
                time.sleep(0.3)
        until(lambda: ready(server), BACK_SECONDS)
        assert client.get("/models").status_code == 200


@pytest.mark.fault("F9")
def test_a_fit_does_not_notice_an_outage_shorter_than_the_lease(postgres, server):
    with server.client() as client:
        slow = {"name": "RandomForestClassifier", "params": {"n_estimators": 200}}
        run = submit(client, "long", **slow)
        until(lambda: client.get(f"/training-runs/{run}").json()["state"] == "running", 30)
        with away(postgres, signal.SIGINT):
            time.sleep(4)
        ended = wait_for(client, f"/training-runs/{run}")
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
        versions = client.get("/models/long/versions").json()["items"]
        assert [version["version"] for version in versions] == [1]


@pytest.mark.fault("F9")
def test_a_fit_ends_once_after_an_outage_longer_than_the_lease(postgres, server):
    with server.client() as client:
        run = submit(client, "longer")
        with away(postgres, signal.SIGINT):
            time.sleep(rounds(8, 30))
        ended = wait_for(client, f"/training-runs/{run}")
        assert ended["state"] == "succeeded", ended
        kinds = [e["type"] for e in client.get(f"/training-runs/{run}/events").json()["items"]]
        assert kinds.count("succeeded") == 1
        assert len(client.get("/models/longer/versions").json()["items"]) == 1


@pytest.mark.fault("F30")
def test_a_slow_line_makes_slow_answers_and_no_failures(line, server):
    line.delay = 0.02
    try:
        with Writers(server, threads=2) as writers:
            until(lambda: len(writers.acknowledged) >= 4, 60)
    finally:
        line.delay = 0.0
    assert writers.statuses() == {201}


@pytest.mark.fault("F30")
def test_connections_that_are_cut_all_the_time_cost_refusals_only(line, server):
    with Writers(server, threads=4) as writers:
        for _ in range(rounds(10, 100)):
            time.sleep(0.1)
            line.cut()
        cut = time.monotonic()
        until(lambda: any(t.status == 201 for t in writers.told if t.at > cut), BACK_SECONDS)
    assert writers.statuses() <= {201, 503}
    assert_told_properly(told.answer for told in writers.told)
    assert_all_there(server, writers.acknowledged)


@pytest.mark.fault("F30")
def test_a_silent_database_holds_nobody_and_heals_by_itself(line, server):
    """A thread that asked a silent database hung for good, until no thread was left to answer."""
    with server.client() as client, Writers(server, threads=24) as writers:
        until(lambda: len(writers.acknowledged) > 20, 60)
        with line.silent():
            until(lambda: 503 in writers.statuses(), 30)
            assert not ready(server)
            for _ in range(5):
                since = time.monotonic()
                assert status(f"{server.url}/livez") == 200
                assert client.post("/models/known/predict", json=ROW).status_code == 200
                assert time.monotonic() - since < 15
        healed = time.monotonic()
        until(lambda: ready(server), BACK_SECONDS)
        until(lambda: any(t.status == 201 for t in writers.told if t.at > healed), BACK_SECONDS)
    assert writers.statuses() == {201, 503}
    assert max(told.seconds for told in writers.told) < 30
    assert_told_properly(told.answer for told in writers.told)
    assert_all_there(server, writers.acknowledged)


@pytest.mark.fault("F30")
def test_a_retry_after_the_line_has_healed_finds_one_dataset(line, server):
    def refuse_for_a_moment():
        with line.refusing():
            time.sleep(0.2)

    for number in range(rounds(4, 40)):
        body, headers = {"name": f"once-{number}"}, {"Idempotency-Key": f"once-{number}"}
        with server.client() as client:
            refusing = threading.Timer(0.004 * (number % 10), refuse_for_a_moment)
            refusing.start()
            answers = [client.post("/datasets", json=body, headers=headers)]
            refusing.join()
            # 409: the reservation of a request that could not give it back ends with its lease.
            while answers[-1].status_code in (503, 409):
                assert answers[-1].headers["Retry-After"]
                time.sleep(0.1)
                answers.append(client.post("/datasets", json=body, headers=headers))
            assert_told_properly(answers, allowed=(*RETRYABLE, 409))
            assert answers[-1].status_code == 201, answers[-1].text
            again = client.post("/datasets", json=body, headers=headers)
            assert again.headers["Idempotent-Replayed"] == "true"
            assert again.json() == answers[-1].json()
