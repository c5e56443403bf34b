"""SQLite's file is locked by somebody else, or its partition is full, under a running server."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
import time

import pytest

from tests.faults.clients import (
    Writers,
    assert_all_there,
    assert_told_properly,
    status,
    until,
)
from tests.faults.rounds import rounds
from tests.server import Server

# The first test pays for the server.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(rounds(300, 900))]
WAIT = rounds(4, 20)
SMALL = {"MODELYARD_WORKERS": "0", "MODELYARD_SERVICES": "access,datasets"}


@contextlib.contextmanager
def locked(path):
    """The lock that no writer gets by."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environment = {**SMALL, "MODELYARD_DATABASE_WAIT": str(WAIT)}
    with Server(tmp_path_factory.mktemp("home"), environment) as running:
        yield running


@pytest.fixture(scope="module")
def path(server):
    return server.home / "instance" / "modelyard.db"


@pytest.mark.fault("F10")
def test_a_lock_that_is_held_for_a_moment_makes_a_slow_success(server, path):
    with server.client() as client, contextlib.ExitStack() as held:
        held.enter_context(locked(path))
        release = threading.Timer(rounds(1, 3), lambda: None)
        release.start()
        with Writers(server, threads=1) as writers:
            release.join()
            assert writers.told == []
            held.close()
            until(lambda: writers.told, 60)
        assert writers.statuses() == {201}
        assert client.get(f"/datasets/{writers.acknowledged[0]}").status_code == 200


@pytest.mark.fault("F10")
def test_a_lock_that_is_held_for_long_is_503_and_reads_are_served(server, path):
    with server.client() as client, Writers(server, threads=60) as writers:
        until(lambda: len(writers.acknowledged) > 20, 60)
        with locked(path):
            since = time.monotonic()
            while time.monotonic() - since < rounds(WAIT + 1, 60):
                assert client.get("/datasets").status_code == 200
                assert status(f"{server.url}/livez") == status(f"{server.url}/readyz") == 200
                time.sleep(0.2)
        unlocked = time.monotonic()
        until(lambda: any(t.status == 201 for t in writers.told if t.at > unlocked), 60)
    assert writers.statuses() == {201, 503}
    assert_told_properly(told.answer for told in writers.told)
    assert_all_there(server, writers.acknowledged)


@pytest.mark.fault("F10")
def test_a_wrong_key_is_401_while_nothing_can_be_written(server, path):
    """It was 503, after a wait: the refusal could not be noted."""
    with locked(path), server.client("myk_abcdefgh_" + "x" * 43) as stranger:
        assert stranger.get("/datasets").status_code == 401


@pytest.fixture
def partition(tmp_path):
    """A partition of its own for a home, with hardly any room, but some for each round's rows."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = f"size={rounds(6, 24)}m"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a partition")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine mounts nothing")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Take all the room that is left; the file that does."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return ballast


@pytest.mark.fault("F12")
def test_a_full_partition_costs_refusals_and_nothing_that_was_acknowledged(partition, tmp_path):
    environment = {
        **SMALL,
        "MODELYARD_DATABASE_URL": f"sqlite:///{partition}/m.db",
        "MODELYARD_DATABASE_WAIT": "4",
        "MODELYARD_DISK_RESERVE": "200k",
    }
    with Server(tmp_path / "home", environment) as server, server.client() as client:
        for _ in range(rounds(1, 10)):
            with Writers(server, threads=3, pause=0) as writers:
                until(lambda w=writers: w.acknowledged, 60)
                ballast = fill(partition)
                until(lambda w=writers: w.statuses() & {503, 507}, 60)
                assert client.get("/datasets").status_code == 200
                assert status(f"{server.url}/livez") == 200
                assert_all_there(server, writers.acknowledged)
                ballast.unlink()
                freed = time.monotonic()
                until(
                    lambda w=writers, f=freed: any(t.status == 201 for t in w.told if t.at > f), 60
                )
            assert writers.statuses() <= {201, 503, 507}
            assert_told_properly(told.answer for told in writers.told)
            assert_all_there(server, writers.acknowledged)
        server.wait_until_ready()
    with contextlib.closing(sqlite3.connect(partition / "m.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
