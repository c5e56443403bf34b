"""A disk that fails at any one call: the client is told, nothing is half kept, all heals."""

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.datasets.installation import CSV, Installation, make_dataset, upload
from tests.faults.rounds import rounds
from tests.server import NO_WORK, Server

AWAY = (503, "/problems/unavailable")
CALLS = ("open", "mkdir", "write", "fsync", "link", "rename", "replace")
NUMBERS = [errno.EIO, errno.EACCES, errno.EROFS, errno.ENOSPC][: rounds(quick=1, full=4)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    made = Installation(tmp_path_factory.mktemp("failing") / "home")
    assert upload(make_dataset(made.client()) and made.client()).status_code == 201
    yield made
    made.close()


class Failing:
    """Makes the n-th of the calls to the system fail, whichever thread of ours it is."""

    def __init__(self, monkeypatch, nth, number):
        self.calls, self.failed, self._lock = 0, "", threading.Lock()
        for name in CALLS:
            monkeypatch.setattr(os, name, self._armed(name, getattr(os, name), nth, number))

    def _armed(self, name, real, nth, number):
        def call(*args, **kwargs):
            with self._lock:
                self.calls += 1
                due = self.calls == nth
            if due:
                self.failed = name
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        return call


def known_versions(installation):
    versions = installation.client().get("/api/v1/datasets/penguins/versions?page_size=500")
    return {item["version"]: item["state"] for item in versions.json["items"]}


@pytest.mark.fault("F13")
@pytest.mark.parametrize("number", NUMBERS)
def test_whichever_call_fails_an_upload_is_whole_or_refused(installation, number):
    full = number == errno.ENOSPC
    refused = {(507, "/problems/storage-full")} if full else {AWAY}
    found, hit = set(), set()
    step = rounds(quick=5, full=1)
    for nth in range(1, 200, step):
        before = known_versions(installation)
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(monkeypatch, nth, number)
            answer = upload(installation.client(), CSV + f"Adelie,{nth}\n")
        after = known_versions(installation)
        if answer.status_code == 201:
            assert after == {**before, answer.json["version"]: "succeeded"}
        else:
            assert after == before, (nth, failing.failed)
            found.add((answer.status_code, answer.json["type"]))
            hit.add(failing.failed)
        if failing.calls < nth:
            break
    assert found == refused
    assert nth > 10
    assert {"open", "write", "fsync", "link"} <= hit or step > 1
    # What a failure left is what nobody knows of, and it goes.
    installation.service.leftovers.sweep(older_than=0)
    named = {key for key in installation.stored_keys() if key.endswith(".parquet")}
    assert len(named) == len(known_versions(installation))
    assert installation.work_folders() == []


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of which only the API is needed."""
    home = tmp_path_factory.mktemp("failing") / "home"
    with Server(home, {**NO_WORK, "MODELYARD_LOG_LEVEL": "error"}) as running:
        yield running


@pytest.fixture
def client(server):
    """One whose connection is there before the fault is."""
    with server.client() as client:
        client.post("/datasets", json={"name": "penguins"})
        assert put_table(client).status_code == 201
        yield client


def put_table(client):
    headers = {"Content-Type": "text/csv"}
    return client.post("/datasets/penguins/versions", content=CSV, headers=headers)


def told(answer):
    return answer.status_code, answer.json().get("type")


@contextmanager
def failing_fsync(process):
    """Every fsync of a process fails, SQLite's own too."""
    calls = "fsync,fdatasync"
    options = ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO", "-o", os.devnull]
    command = ["strace", "-f", "-p", str(process.pid), *options]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = Path(f"/proc/{process.pid}/status")
        while f"TracerPid:\t{tracer.pid}\n" not in status.read_text():
            if tracer.poll() is not None:
                pytest.skip("this machine lets nobody trace a process")
            time.sleep(0.01)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


@pytest.mark.slow
@pytest.mark.fault("F13")
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_no_write_is_acknowledged_whose_fsync_failed(server, client):
    with failing_fsync(server.processes("role api")[-1]):
        for number in range(5):
            body = {"description": f"never-{number}"}
            assert told(client.patch("/datasets/penguins", json=body)) == AWAY
            assert told(put_table(client)) == AWAY
            assert told(client.delete("/datasets/penguins")) == AWAY
            assert client.get("/datasets/penguins").json()["description"] == ""
    assert client.patch("/datasets/penguins", json={"description": "kept"}).status_code == 200
    assert put_table(client).status_code == 201
    database = server.home / "instance" / "modelyard.db"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT description FROM datasets_datasets"
        assert connection.execute(query).fetchall() == [("kept",)]


@pytest.mark.slow
@pytest.mark.fault("F14")
def test_a_process_without_file_handles_says_so_and_reads_on(server, client):
    api = server.processes("role api")[-1]
    soft, hard = resource.prlimit(api.pid, resource.RLIMIT_NOFILE)
    try:
        resource.prlimit(api.pid, resource.RLIMIT_NOFILE, (api.num_fds(), hard))
        for _ in range(3):
            readiness = client.get(f"{server.url}/readyz")
            assert readiness.status_code == 503
            assert "Too many open files" in readiness.json()["checks"]["store"]
            assert told(put_table(client)) == AWAY
            assert client.get("/datasets/penguins").status_code == 200
            assert client.get(f"{server.url}/livez").status_code == 200
    finally:
        resource.prlimit(api.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert put_table(client).status_code == 201
    server.wait_until_ready()
