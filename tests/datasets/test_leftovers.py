"""What killed processes leave behind."""

import os

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.datasets import conversion
from app.kernel.errors import Unavailable
from tests.datasets.installation import Installation, make_dataset, upload


@pytest.fixture
def installation(tmp_path, database_url):
    """An installation of its own: all that is in its store is swept."""
    made = Installation(tmp_path, database_url)
    yield made
    made.close()


def test_what_has_no_row_is_swept_once_it_is_old(installation):
    client = installation.client()
    make_dataset(client)
    upload(client, "a\n1\nx\n", query="on_error=quarantine", X_Columns='{"a": {"type": "integer"}}')
    upload(client, Prefer="respond-async")
    ours = installation.stored_keys()
    assert len(ours) == 3
    store = installation.wiring.store
    for key in ("default/datasets/x.parquet", "other/uploads/y", "default/models/z.joblib"):
        store.put(key, b"left behind")
    assert installation.service.leftovers.sweep().stored == 0
    swept = installation.service.leftovers.sweep(older_than=0)
    assert swept.stored == 2
    assert sorted(installation.stored_keys()) == sorted([*ours, "default/models/z.joblib"])


def test_work_folders_are_swept_once_they_are_old(installation):
    work = installation.settings.instance / "work" / "uploads"
    for name, time in (("old", 0), ("new", None)):
        (work / name).mkdir(parents=True)
        if time is not None:
            os.utime(work / name, (time, time))
    assert installation.service.leftovers.sweep().folders == 1
    assert [path.name for path in installation.work_folders()] == ["new"]


@pytest.fixture
def broken_commit():
    """The next commit is broken off: nobody can tell whether it came through."""

    def break_off(_session):
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    event.listen(Session, "before_commit", break_off, once=True)


def test_after_a_commit_of_unknown_outcome_the_bytes_stay_for_the_sweep(installation, request):
    client = installation.client()
    make_dataset(client)
    request.getfixturevalue("broken_commit")
    assert upload(client).status_code == 503
    assert client.get("/api/v1/datasets/penguins/versions").json["items"] == []
    assert installation.service.leftovers.sweep(older_than=0).stored == 1
    assert installation.stored_keys() == []


def test_a_failure_before_the_commit_leaves_no_bytes(installation, monkeypatch):
    def lost(*_):
        raise Unavailable("The database connection was lost")

    client = installation.client()
    make_dataset(client)
    monkeypatch.setattr(conversion, "complete", lost)
    assert upload(client).status_code == 503
    assert installation.stored_keys() == []
