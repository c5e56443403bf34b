"""Workers come with the queue and go when it is empty, here and on other hosts; real servers."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import NO_PROCESSORS, Server, wait_for

ROOT = Path(__file__).resolve().parents[2]
PENGUINS = ROOT / "examples" / "penguins.csv"
DONE_SECONDS, STOP_SECONDS = 400.0, 30.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Elastic:
    """A server whose workers follow the queue, seen through its figures."""

    def __init__(self, server, client):
        self._server, self._client = server, client
        table = {"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")}
        client.post("/datasets", data={"name": "penguins"}, files=table).raise_for_status()

    def submit(self, *names):
        """Ask for a short run for each model; the path of the last one."""
        for name in names:
            wanted = {"model": name, "dataset": "penguins", "target": "species"}
            wanted |= {"estimator": {"name": "DummyClassifier"}}
            answer = self._client.post("/training-runs", json=wanted)
            assert answer.status_code == 202, answer.text
        return f"/training-runs/{answer.json()['id']}"

    def figures(self):
        """What Prometheus reads: the value of each name with its labels."""
        text = self._client.get(f"{self._server.url}/metrics").text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return {(one.name, *one.labels.values()): one.value for one in samples}

    def workers(self):
        """How many are wanted, alive, and answer under a name of their own."""
        now = self.figures()
        shown = [key for key in now if key[0] == "modelyard_process_up" and "worker-" in key[1]]
        wanted, alive = now["modelyard_workers_wanted",], now["modelyard_workers_alive",]
        return wanted, alive, sum(now[key] for key in shown)

    def states(self):
        """The states of all runs."""
        runs = self._client.get("/training-runs", params={"page_size": 100}).json()["items"]
        return [run["state"] for run in runs]


@contextmanager
def elastic(home, **settings):
    """A server with settings of its own."""
    settings = {f"MODELYARD_{name.upper()}": value for name, value in settings.items()}
    server = Server(home, {**NO_PROCESSORS, "MODELYARD_LOG_LEVEL": "info", **settings})
    with server, server.client() as client:
        yield Elastic(server, client), server


def seconds_until(condition, most):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < most, f"not within {most} s"
        time.sleep(0.1)
    return time.monotonic() - started


def come_and_go(home, *, most, runs, idle, grown_seconds, back_seconds):
    """Submit many runs at once, and see the workers come and go; the seconds it took."""
    with elastic(home, workers=f"1..{most}", worker_idle_seconds=str(idle)) as (yard, server):
        seconds_until(lambda: yard.workers()[:2] == (1, 1), 90)
        yard.submit(*(f"m{number}" for number in range(most + 2)))
        grown = seconds_until(lambda: yard.workers()[:2] == (most, most), grown_seconds)
        yard.submit(*(f"m{number}" for number in range(most + 2, runs)))
        done = seconds_until(lambda: yard.states() == ["succeeded"] * runs, DONE_SECONDS)
        back = seconds_until(lambda: yard.workers() == (1, 1, 1), back_seconds)
        log = server.log()
    assert log.count('"worker_retired"') == most - 1
    assert "role_died" not in log
    return {"grown": grown, "done": done, "back": back}


def test_workers_come_with_the_queue_and_retire_when_they_idle(tmp_path):
    come_and_go(tmp_path, most=3, runs=6, idle=1.5, grown_seconds=60, back_seconds=90)


@pytest.mark.long
def test_a_queue_of_sixty_short_runs_has_four_workers_and_an_empty_one_has_one(tmp_path):
    took = come_and_go(tmp_path, most=4, runs=60, idle=15, grown_seconds=5, back_seconds=60)
    print({name: round(seconds, 1) for name, seconds in took.items()})  # noqa: T201


@contextmanager
def worker_elsewhere(home, shared):
    """``modelyard worker``, as it is started on another host: a home of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    command = [sys.executable, "-m", "app", "worker", "--home", str(home)]
    process = subprocess.Popen(command, cwd=ROOT, env={**inherited, **shared})
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_SECONDS) == 0


@pytest.mark.long
def test_a_worker_on_another_host_joins_by_one_command_and_takes_what_waits(postgres_url, tmp_path):
    shared = {
        "database_url": postgres_url(),
        "store_url": f"file://{tmp_path / 'store'}",
        "secret": "s" * 40,
    }
    with elastic(tmp_path / "here", workers="0", **shared) as (yard, server):
        path = yard.submit("m")
        assert yard.figures()["modelyard_queue_depth", "training_run"] == 1
        there = {f"MODELYARD_{name.upper()}": value for name, value in shared.items()}
        there |= {"MODELYARD_ADMIN_KEY": server.admin_key, "MODELYARD_LOG_LEVEL": "warning"}
        with worker_elsewhere(tmp_path / "there", there), server.client() as client:
            assert wait_for(client, path)["state"] == "succeeded"
            assert wait_for(client, yard.submit("m"), seconds=30)["model_version"] == 2
