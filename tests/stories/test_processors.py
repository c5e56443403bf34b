"""Processors of a real server: they run, survive a kill, and may live on another host."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server import Server

SECRET = "s" * 40
PROCESSOR = {
    "name": "sums",
    "kind": "aggregate",
    "topic": "in",
    "output_topic": "out",
    "dead_letter_topic": None,
    "aggregate": {
        "window": {"size_seconds": 10},
        "aggregates": {"n": {"function": "count"}},
        "time_field": "at",
    },
}


def furnish(client):
    for topic in ("in", "out"):
        assert client.post("/topics", json={"name": topic}).status_code == 201
    answer = client.post("/processors", json=PROCESSOR)
    assert answer.status_code == 201, answer.text


def produce(client, window):
    """Ten records of a window, and one that closes it."""
    times = [window * 10_000 + number for number in range(10)] + [(window + 1) * 10_000]
    records = [{"key": "k", "value": {"at": at}} for at in times]
    assert client.post("/topics/in/records", json={"records": records}).status_code == 201


def told(client, offset):
    """The output of an offset, as soon as it is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        query = {"offset": offset, "wait": 10}
        items = client.get("/topics/out/partitions/0/records", params=query).json()["items"]
        if items:
            return [item["value"]["values"]["n"] for item in items]
    raise AssertionError(client.get("/processors/sums").text)


def kill_processor(server):
    """End the process that runs processors, without a chance to tidy up."""
    for child in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):
            if child.cmdline()[-2:] == ["role", "processor-1"]:
                child.kill()
                return
    raise AssertionError("there is no such process")


@pytest.mark.slow
@pytest.mark.long
def test_a_server_runs_processors_and_starts_them_again_when_they_die(tmp_path):
    with Server(tmp_path / "home") as server, server.client() as client:
        furnish(client)
        produce(client, 1)
        assert told(client, 0) == [10]
        kill_processor(server)
        produce(client, 3)
        # What the record at 20 s had opened closes first.
        assert told(client, 1)[:2] == [1, 10]
        assert client.get("/processors/sums").json()["counts"]["taken"] == 22
        metrics = httpx.get(
            f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.admin_key}"}
        ).text
        assert 'modelyard_process_up{process="processor-1"} 1.0' in metrics
        assert server.stop() == 0


@pytest.mark.slow
@pytest.mark.long
def test_processors_may_run_on_a_host_of_their_own(tmp_path):
    shared = {
        "MODELYARD_SECRET": SECRET,
        "MODELYARD_DATABASE_URL": f"sqlite:///{tmp_path / 'shared.db'}",
        "MODELYARD_STORE_URL": f"file://{tmp_path / 'store'}",
    }
    with Server(tmp_path / "home", {**shared, "MODELYARD_PROCESSORS": "0"}) as server:
        client = server.client()
        furnish(client)
        produce(client, 1)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
        command = [sys.executable, "-m", "app", "processor", "--home", str(tmp_path / "other")]
        with (tmp_path / "other.log").open("ab") as log:
            other = subprocess.Popen(
                command,
                env={**inherited, **shared},
                stdout=log,
                stderr=log,
                cwd=Path(__file__).resolve().parents[2],
            )
        try:
            assert told(client, 0) == [10]
        finally:
            other.terminate()
            status = other.wait(30)
        assert status == 0
        partitions = client.get("/processors/sums").json()["partitions"]
        assert not any(one["active"] for one in partitions)
        client.close()
