"""Versions that are made later, by a worker."""

import io
import threading
import time

import pytest

from app.kernel.errors import Unavailable
from tests.datasets.installation import CSV, Installation, content_digest, make_dataset, upload
from tests.problems import assert_problem

LATER = {"Prefer": "respond-async"}
VERSION = "/api/v1/datasets/penguins/versions/1"


@pytest.fixture
def client(installation):
    """A client of a dataset without versions; no job of an earlier test is left."""
    installation.work()
    client = installation.client()
    make_dataset(client)
    return client


def test_a_version_is_queued_then_ready(installation, client):
    accepted = upload(client, **LATER)
    assert (accepted.status_code, accepted.headers["Location"]) == (202, VERSION)
    assert (accepted.json["state"], accepted.json["columns"]) == ("queued", None)
    assert client.get("/api/v1/datasets/penguins").json["newest_version"] is None
    assert_problem(client.get(VERSION + "/rows"), 409)
    installation.work()
    ready = client.get(VERSION).json
    assert (ready["state"], ready["rows"], ready["attempt"]) == ("succeeded", 3, 1)
    assert ready["progress"] == {"fraction": 1.0, "step": "done", "message": ""}
    assert len(client.get(VERSION + "/rows").json["items"]) == 3
    assert [key.split("/")[1] for key in installation.stored_keys()] == ["datasets"]
    assert installation.work_folders() == []


def test_a_bad_file_is_found_out_later(installation, client):
    rules = '{"mass": {"type": "integer"}}'
    upload(client, "mass\nheavy\n", X_Columns=rules, **LATER)
    installation.work()
    failed = client.get(VERSION).json
    assert (failed["state"], failed["error"]["code"]) == ("failed", "invalid")
    assert failed["error"]["errors"][0]["pointer"] == "/rows/1/mass"
    assert not failed["error"]["retryable"]
    assert installation.stored_keys() == []
    types = [item["type"] for item in client.get("/api/v1/events?source=datasets").json["items"]]
    assert types[-2:] == ["modelyard.dataset.version.queued", "modelyard.dataset.version.failed"]


def test_what_happens_to_a_version_is_told(installation, client):
    upload(client, **LATER)
    (queued,) = client.get(VERSION + "/events").json["items"]
    assert (queued["seq"], queued["type"]) == (1, "queued")
    installation.work()
    later = client.get(VERSION + "/events?after=1").json
    assert [event["type"] for event in later["items"]] == ["running", "succeeded"]
    assert (later["items"][1]["data"], later["next_after"]) == ({"rows": 3}, 3)
    assert_problem(client.get("/api/v1/datasets/penguins/versions/2/events"), 404)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_version_can_be_watched_until_it_has_ended(installation, client, deleted):
    upload(client, **LATER)
    stream = client.get(VERSION + "/events", headers={"Accept": "text/event-stream"})
    pieces = iter(stream.response)
    assert b"event: queued" in next(pieces) + next(pieces)
    end = threading.Thread(
        target=(lambda: client.delete(VERSION)) if deleted else installation.work
    )
    end.start()
    rest = b"".join(pieces)
    end.join()
    assert (b"event: succeeded" in rest, b'"step": "done"' in rest) == (not deleted,) * 2


def test_a_dataset_made_with_a_file_tells_where_to_look(installation):
    client = installation.client()
    form = {"name": "new", "file": (io.BytesIO(CSV.encode()), "t.csv", "text/csv")}
    accepted = client.post("/api/v1/datasets", data=form, headers=LATER)
    assert accepted.status_code == 202, accepted.text
    assert accepted.headers["Location"] == "/api/v1/datasets/new/versions/1"
    assert accepted.json["version"]["state"] == "queued"
    installation.work()
    assert client.get("/api/v1/datasets/new").json["newest_version"] == 1


def test_a_retry_gets_the_same_202(client):
    headers = {"Idempotency_Key": "once", "Content_Digest": content_digest(CSV), **LATER}
    first, again = upload(client, **headers), upload(client, **headers)
    assert (first.status_code, again.status_code, again.json) == (202, 202, first.json)


def test_a_wait_ends_when_the_version_is_ready(installation, client):
    etag = upload(client, **LATER).headers["ETag"]
    worker = threading.Timer(0.3, installation.work)
    worker.start()
    started = time.monotonic()
    waited = client.get(VERSION + "?wait=20", headers={"If-None-Match": etag})
    assert waited.json["state"] in ("running", "succeeded")
    while waited.json["state"] != "succeeded":
        waited = client.get(VERSION + "?wait=20")
    assert time.monotonic() - started < 15
    worker.join()


def test_a_wait_for_what_has_ended_answers_at_once(client):
    upload(client)
    started = time.monotonic()
    assert client.get(VERSION + "?wait=20").json["state"] == "succeeded"
    assert time.monotonic() - started < 10


def test_a_wait_without_a_change_ends_in_time(client):
    etag = upload(client, **LATER).headers["ETag"]
    answer = client.get(VERSION + "?wait=1", headers={"If-None-Match": etag})
    assert answer.status_code == 304


def test_an_outage_of_the_ingest_is_tried_again(installation, client, monkeypatch):
    tries = []
    ingest = installation.service.backlog._conversions._ingest
    convert = ingest.convert

    def shaky(sent, beat, **_):
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("The ingest process has gone", retry_after=0.05)
        return convert(sent, beat)

    monkeypatch.setattr(ingest, "convert", shaky)
    upload(client, **LATER)
    installation.work()
    version = client.get(VERSION).json
    assert (version["state"], version["attempt"]) == ("succeeded", 2)


def test_progress_is_told_and_is_no_change(installation, client, monkeypatch):
    seen = []
    ingest = installation.service.backlog._conversions._ingest
    convert = ingest.convert

    def slow(sent, beat, **_):
        beat({"fraction": 0.1, "step": "reading", "message": ""})
        time.sleep(1.1)
        before = client.get(VERSION)
        beat({"fraction": 0.5, "step": "reading", "message": "half"})
        after = client.get(VERSION)
        seen.append((before.headers["ETag"], after.headers["ETag"], after.json["progress"]))
        return convert(sent, beat)

    monkeypatch.setattr(ingest, "convert", slow)
    upload(client, **LATER)
    installation.work()
    before, after, progress = seen[0]
    assert before == after
    assert (progress["fraction"], progress["message"]) == (0.5, "half")


def test_a_version_deleted_while_it_is_made_leaves_nothing(installation, client, monkeypatch):
    ingest = installation.service.backlog._conversions._ingest
    convert = ingest.convert

    def deleted_meanwhile(sent, beat, **_):
        found = convert(sent, beat)
        assert client.delete(VERSION).status_code == 204
        return found

    monkeypatch.setattr(ingest, "convert", deleted_meanwhile)
    upload(client, **LATER)
    installation.work()
    assert_problem(client.get(VERSION), 404)
    assert installation.stored_keys() == []


def test_a_full_queue_is_told(tmp_path):
    installation = Installation(tmp_path, max_queued=1)
    client = installation.client()
    make_dataset(client)
    assert upload(client, **LATER).status_code == 202
    assert_problem(upload(client, **LATER), 429)
    assert len(installation.stored_keys()) == 1
    installation.close()
