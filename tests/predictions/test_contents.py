"""Results of batches: downloaded whole or in part, cleared away, reconciled both ways."""

import os
import time

import pytest

from app.kernel.errors import Unavailable
from tests.predictions.batches import batch_row

CSV = b"mass,prediction\n1,heavy\n2,light\n"


class Batches:
    """A yard with a succeeded batch, whose files can be touched."""

    def __init__(self, yard):
        self.yard = yard
        self.contents = yard.wiring.batches.contents
        self.batch = self.make("succeeded", attempt=1)
        self.path = f"/api/v1/batch-predictions/{self.batch.id}"
        self.key = f"default/batches/{self.batch.id}-1.csv"

    def make(self, state, attempt):
        """A batch in some state, with a result in the store."""
        batch = batch_row(stored_state=state, attempt=attempt)
        key = f"default/batches/{batch.id}-{attempt}.csv"
        told = vars(self.yard.wiring.store.put(key, CSV))
        batch.contents = {"csv": dict(told)} if state == "succeeded" else None
        with self.yard.wiring.database("predictions").write() as session:
            session.add(batch)
        self.age(key)
        return batch

    def file(self, key):
        """Where the folder store keeps a key."""
        return self.yard.settings.home / "models_store" / key

    def age(self, key, seconds=4000):
        """Let a stored thing be older."""
        then = time.time() - seconds
        os.utime(self.file(key), (then, then))

    def stored_keys(self):
        """All that is in the store."""
        return {item.key for item in self.yard.wiring.store.list()}

    def told(self):
        """The batch as a client sees it."""
        return self.yard.client().get(self.path).json

    def content(self, **headers):
        """A download of the result."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.yard.client().get(f"{self.path}/content", headers=named)


@pytest.fixture
def batches(yard):
    return Batches(yard)


@pytest.fixture
def sqlite_batches(sqlite_yard):
    return Batches(sqlite_yard)


def test_a_result_is_sent_whole_with_its_digest(sqlite_batches):
    answer = sqlite_batches.content()
    assert (answer.status_code, answer.data) == (200, CSV)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert answer.headers["Content-Disposition"].endswith(f'"{sqlite_batches.batch.id}.csv"')
    assert "Accept" in answer.headers["Vary"]
    tag = answer.headers["ETag"]
    assert sqlite_batches.content(If_None_Match=tag).status_code == 304


def test_a_part_of_a_result_is_sent(sqlite_batches):
    answer = sqlite_batches.content(Range="bytes=5-9")
    assert (answer.status_code, answer.data) == (206, CSV[5:10])
    assert answer.headers["Content-Range"] == f"bytes 5-9/{len(CSV)}"
    assert sqlite_batches.content(Range="bytes=900-").status_code == 416


def test_where_all_is_well_nothing_is_found(batches):
    assert batches.contents.run(deep=True) == []
    assert batches.told()["error"] is None


def test_old_bytes_of_no_batch_are_cleared_away_and_young_ones_stay(batches):
    store = batches.yard.wiring.store
    for name in ("old-1.csv", "young-1.csv", "no attempt".replace(" ", "-")):
        store.put(f"default/batches/{name}", b"x")
    store.put("default/models/old", b"x")
    for key in ("default/batches/old-1.csv", "default/batches/no-attempt", "default/models/old"):
        batches.age(key)
    assert len(batches.contents.plan()) == 2
    assert len(batches.stored_keys()) == 5
    found = batches.contents.run()
    assert [(one.code, one.mended) for one in found] == [("orphan", True)] * 2
    assert batches.stored_keys() == {
        batches.key,
        "default/batches/young-1.csv",
        "default/models/old",
    }


def test_what_an_attempt_under_way_has_stored_stays(batches):
    """The CSV of a large batch may take longer than an hour after its Parquet file is stored."""
    running = batches.make("running", attempt=2)
    earlier = f"default/batches/{running.id}-1.csv"
    batches.yard.wiring.store.put(earlier, b"x")
    batches.age(earlier)
    assert [one.subject for one in batches.contents.run()] == [earlier]
    assert f"default/batches/{running.id}-2.csv" in batches.stored_keys()


def flip(batches):
    batches.file(batches.key).write_bytes(CSV.replace(b"heavy", b"light"))


def truncate(batches):
    batches.file(batches.key).write_bytes(CSV[:-3])


def remove(batches):
    batches.file(batches.key).unlink()


@pytest.mark.parametrize("harm", [flip, truncate, remove])
def test_a_wrong_result_is_refused_and_told_until_it_is_put_back(sqlite_batches, harm):
    harm(sqlite_batches)
    answer = sqlite_batches.content()
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/corrupt")
    assert sqlite_batches.told()["error"]["code"] == "corrupt"
    assert sqlite_batches.told()["state"] == "succeeded"

    sqlite_batches.file(sqlite_batches.key).write_bytes(CSV)
    assert [one.code for one in sqlite_batches.contents.run()] == ["restored"]
    assert sqlite_batches.told()["error"] is None
    assert sqlite_batches.content().data == CSV


@pytest.mark.parametrize("harm", [flip, truncate, remove])
def test_the_examination_finds_a_wrong_result_once(batches, harm):
    harm(batches)
    found = batches.contents.run(deep=True)
    assert [(one.code, one.subject, one.mended) for one in found] == [
        ("corrupt", f"batch-predictions/{batches.batch.id}", False)
    ]
    etag = batches.yard.client().get(batches.path).headers["ETag"]
    batches.contents.run(deep=True)
    assert batches.yard.client().get(batches.path).headers["ETag"] == etag


def test_a_deleted_batch_is_gone_also_when_the_store_is_away(sqlite_batches, monkeypatch):
    """The store's error was the answer, though the row had gone: the client tried again, 404."""

    def away(_key):
        raise Unavailable("The artifact store does not answer")

    client = sqlite_batches.yard.client()
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_batches.yard.wiring.store, "delete", away)
        assert client.delete(sqlite_batches.path).status_code == 204
    assert client.get(sqlite_batches.path).status_code == 404
    assert [one.code for one in sqlite_batches.contents.run()] == ["orphan"]
    assert sqlite_batches.stored_keys() == set()
