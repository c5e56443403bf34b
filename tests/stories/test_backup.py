"""A backup of a whole server under load, restored elsewhere: all that was promised is there."""

import contextlib
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.server import Server, wait_for

ROOT = Path(__file__).resolve().parents[2]
PENGUINS = (ROOT / "examples" / "penguins.csv").read_bytes()
ROW = {"bill_length_mm": 39.1, "flipper_length_mm": 181}
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(480)]


def upload(client, name):
    file = {"file": ("penguins.csv", PENGUINS, "text/csv")}
    return client.post("/datasets", data={"name": name}, files=file)


def train(client, model):
    wanted = {
        "model": model,
        "dataset": "penguins",
        "target": "species",
        "features": list(ROW),
        "estimator": {"name": "LogisticRegression"},
    }
    return client.post("/training-runs", json=wanted)


def predict(client):
    return client.post("/models/penguins/predict", json={"inputs": [ROW]})


class Load:
    """Uploads, training and deletions that go on until the block is left."""

    def __init__(self, server):
        self._server = server
        self._stopped = threading.Event()
        self.done = {"uploaded": 0, "deleted": 0, "trained": 0}

    def _churn(self, number):
        with self._server.client() as client:
            for turn in itertools.count():
                if self._stopped.is_set():
                    return
                name = f"load-{number}-{turn}"
                with contextlib.suppress(httpx.TransportError):
                    self.done["uploaded"] += upload(client, name).status_code == 201
                    if turn % 2:
                        path = f"/datasets/load-{number}-{turn - 1}"
                        self.done["deleted"] += client.delete(path).status_code == 204
                    if number == 0 and turn % 8 == 0:
                        self.done["trained"] += train(client, "busy").status_code == 202

    def __enter__(self):
        self._threads = [threading.Thread(target=self._churn, args=(n,)) for n in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def command(*arguments):
    """A command line, as an operator gives it."""
    done = subprocess.run(
        [sys.executable, "-m", "app", *map(str, arguments)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pages(client, path):
    """All items of a list."""
    answer = client.get(path, params={"page_size": 500}).json()
    assert not answer.get("next_page_token")
    return answer["items"]


def test_a_backup_under_load_holds_all_that_was_promised_before_it_began(tmp_path):
    with Server(tmp_path / "old") as server, server.client() as client:
        assert upload(client, "penguins").status_code == 201
        run = wait_for(client, f"/training-runs/{train(client, 'penguins').json()['id']}")
        assert run["state"] == "succeeded"
        stored = client.post("/predictions", json={"model": "penguins", "inputs": [ROW]}).json()
        expected = predict(client).json()["outputs"]
        with Load(server) as load:
            promised = {f"kept-{n}": upload(client, f"kept-{n}").json() for n in range(5)}
            queued = [train(client, f"queued-{n}").json()["id"] for n in range(2)]
            command("backup", "--home", server.home, tmp_path / "yard.tar")
        assert min(load.done.values()) > 0
    server.home = tmp_path / "new"
    assert "1 databases" in command("restore", "--home", server.home, tmp_path / "yard.tar")
    assert "BAD" not in command("doctor", "--home", server.home)
    with server, server.client() as client:
        assert set(promised) <= {dataset["name"] for dataset in pages(client, "/datasets")}
        assert predict(client).json()["outputs"] == expected
        assert client.get(f"/predictions/{stored['id']}").json() == stored
        for run_id in queued:
            assert wait_for(client, f"/training-runs/{run_id}")["state"] == "succeeded"
