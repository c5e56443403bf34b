"""Disks that are full or may not be written: told by name, nothing half kept, deletions work."""

import sqlite3
from contextlib import closing

import pytest

from app.kernel.sandbox.parent import Sandbox
from app.roles import PRELOADS
from tests.faults.disks import ROW, OnSmallDisks, filled, read_only, small_disk

API = "/api/v1"
FULL_STORE = "No space left to keep it"
FULL_DISK = "No space left on the disk of the instance or the database"
FULL, AWAY = (507, "/problems/storage-full"), (503, "/problems/unavailable")


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disks")
    with small_disk(folder / "home", 48) as home, small_disk(folder / "store", 8) as store:
        made = OnSmallDisks(home, store)
        yield made
        made.close()


@pytest.fixture(scope="module")
def worker(yard):
    """Works as long as the tests run."""
    assert yard.upload("trained").status_code == 201
    with Sandbox(preload=PRELOADS) as sandbox, yard.working(sandbox) as working:
        yield working


def told(answer):
    return answer.status_code, answer.json["type"]


@pytest.mark.fault("F11")
def test_an_upload_that_does_not_fit_is_507_and_no_dataset(yard):
    assert yard.upload("early").status_code == 201
    with filled(yard.store_disk):
        assert (yard.readiness()[0], yard.readiness()[1]["store"]) == (503, FULL_STORE)
        assert told(yard.upload("late")) == FULL
        assert "late" not in yard.names("datasets")
        rows = yard.client().get(f"{API}/datasets/early/versions/1/rows?limit=2")
        assert [row["mass"] for row in rows.json["items"]] == [3000, 3009]
        assert yard.predict("fast").status_code == 200
        assert yard.client().delete(f"{API}/datasets/early").status_code == 204
    assert yard.upload("late").status_code == 201
    assert yard.readiness()[0] == 200


@pytest.mark.fault("F12")
def test_on_a_full_disk_what_was_acknowledged_is_there_and_deletions_work(yard):
    """The write-ahead log had no room for a deletion: what was full could only get fuller."""
    names = [f"kept-{number}" for number in range(4)]
    assert all(yard.upload(name).status_code == 201 for name in names)
    client, stored = yard.client(), {"model": "fast", "inputs": [ROW]}
    with filled(yard.home_disk):
        assert (yard.readiness()[0], yard.readiness()[1]["disk"]) == (503, FULL_DISK)
        kept = 0
        while (answer := client.post(f"{API}/predictions", json=stored)).status_code == 201:
            kept += 1
        assert told(answer) == FULL
        assert yard.predict("fast").status_code == yard.predict("slow").status_code == 200
        rows = client.get(f"{API}/datasets/kept-0/versions/1/rows?limit=1")
        assert rows.status_code == 200, rows.json
        for name in names[:3]:
            assert client.delete(f"{API}/datasets/{name}").status_code == 204
        # The room was only lent: but for what the log has grown by, it is kept back again.
        assert (yard.settings.instance / "reserve").stat().st_blocks * 512 > 2 << 20
        assert (yard.readiness()[0], yard.readiness()[1]["disk"]) == (503, FULL_DISK)
    assert yard.readiness()[0] == 200
    assert yard.names("datasets") & set(names) == set(names[3:])
    assert len(client.get(f"{API}/predictions?page_size=500").json["items"]) == kept
    assert client.post(f"{API}/predictions", json=stored).status_code == 201
    with closing(sqlite3.connect(yard.settings.instance / "modelyard.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.fault("F14")
def test_a_read_only_store_is_named_and_heals_without_a_restart(yard):
    with read_only(yard.store_disk):
        status, checks = yard.readiness()
        assert (status, "Read-only file system" in checks["store"]) == (503, True)
        assert told(yard.upload("blocked")) == AWAY
        assert "blocked" not in yard.names("datasets")
        assert yard.predict("fast").status_code == 200
    assert yard.upload("blocked").status_code == 201
    assert yard.readiness()[0] == 200


@pytest.mark.slow
@pytest.mark.fault("F11")
@pytest.mark.parametrize("left", [0, 6 << 10])
def test_a_run_whose_artifacts_do_not_fit_fails_by_that_name(yard, worker, left):
    """What had found room before the rest did not stayed on the full disk, without an owner."""
    before = yard.stored_keys()
    with filled(yard.store_disk, but=left):
        run = yard.ended(yard.submit("unlucky"))
        assert (run["state"], run["attempt"]) == ("failed", 1)
        assert (run["error"]["code"], run["error"]["retryable"]) == ("storage_full", True)
        assert yard.stored_keys() == before
        assert "unlucky" not in yard.names("models")
        assert yard.predict("fast").status_code == 200
    assert yard.ended(yard.submit(f"lucky-{left}"))["state"] == "succeeded"


@pytest.mark.slow
@pytest.mark.fault("F14")
def test_a_run_waits_for_a_store_that_may_not_be_written(yard, worker):
    with read_only(yard.store_disk):
        answer = yard.submit("patient")
        run = yard.client().get(answer.headers["Location"]).json
        while run["attempt"] < 2:
            run = yard.client().get(f"{answer.headers['Location']}?wait=5").json
        assert run["state"] in ("queued", "running")
    assert yard.ended(answer)["state"] == "succeeded"


@pytest.mark.slow
@pytest.mark.fault("F14")
def test_a_run_whose_store_stays_away_says_so_and_blames_no_worker(yard, worker):
    with read_only(yard.store_disk):
        run = yard.ended(yard.submit("hopeless"))
    assert (run["state"], run["error"]["code"], run["error"]["retryable"]) == (
        "failed",
        "unavailable",
        True,
    )
    assert "Read-only file system" in run["error"]["detail"]
