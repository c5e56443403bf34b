"""Holds, and deletions that nobody is hurt by."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.datasets.ports import Reference
from app.datasets.tables import Hold, Version
from app.kernel.auth import make_peer_token
from app.kernel.sql import utc_now
from tests.datasets.installation import make_dataset, upload
from tests.problems import assert_problem

DATASET = "/api/v1/datasets/penguins"
VERSION = DATASET + "/versions/1"
RUN = Reference("training", "training-runs/7", "running", "It trains on it")


@pytest.fixture
def client(installation):
    """A client of a dataset with two versions."""
    client = installation.client()
    make_dataset(client)
    for mass in (1, 2):
        assert upload(client, f"mass\n{mass}\n").status_code == 201
    return client


def hold(installation, version=None, holder="training-runs/7", seconds=60, dataset="penguins"):
    token = make_peer_token(
        installation.wiring.ring,
        service="training",
        project=installation.project,
        scopes=frozenset({"datasets:hold"}),
        lifetime=60,
    )
    body = {"version": version, "holder": holder, "seconds": seconds}
    return installation.yard.client(token).post(f"/api/v1/datasets/{dataset}/holds", json=body)


def expire(installation, column, row):
    past = {column: utc_now() - timedelta(seconds=1)}
    with installation.wiring.database("datasets").write() as session:
        session.execute(update(row.__table__).values(past))


def test_a_hold_tells_all_that_the_holder_needs(installation, client):
    held = hold(installation)
    assert held.status_code == 201
    version = client.get(DATASET + "/versions/2").json
    assert (held.json["version"], held.json["rows"]) == (2, 1)
    assert held.json["digest"] == version["digest"]
    assert held.json["columns"] == version["columns"]
    storage = held.json["storage"]
    assert storage["bytes"] == version["bytes"]
    content = installation.wiring.store.open(storage["key"], storage["digest"])
    assert content.startswith(b"PAR1")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"version": 9}, 404),
        ({"dataset": "nope"}, 404),
        ({"version": 0}, 422),
        ({"seconds": 3601}, 422),
        ({"holder": ""}, 422),
    ],
)
def test_a_hold_on_what_is_not_there_is_refused(installation, client, asked, status):
    assert_problem(hold(installation, **asked), status)


def test_what_is_not_ready_can_not_be_held(installation, client):
    make_dataset(client, "new")
    assert_problem(hold(installation, dataset="new"), 409)
    upload(client, dataset="new", Prefer="respond-async")
    assert_problem(hold(installation, dataset="new"), 409)
    assert_problem(hold(installation, 1, dataset="new"), 409)


def test_what_is_held_is_not_deleted_until_the_hold_ends(installation, client):
    hold(installation, 1)
    problem = assert_problem(client.delete(VERSION), 409)
    assert problem["type"] == "/problems/still-referred"
    assert problem["referrers"][0]["subject"] == "training-runs/7"
    assert_problem(client.delete(DATASET), 409)
    assert client.delete(DATASET + "/versions/2").status_code == 204
    expire(installation, "until", Hold)
    assert client.delete(VERSION).status_code == 204


def test_the_same_holder_holds_anew(installation, client):
    for _ in range(2):
        assert hold(installation, 1).status_code == 201


def test_a_version_is_deleted_with_its_bytes_and_its_number(installation, client):
    assert client.delete(DATASET + "/versions/2").status_code == 204
    assert_problem(client.get(DATASET + "/versions/2"), 404)
    assert_problem(client.delete(DATASET + "/versions/2"), 404)
    assert len(installation.stored_keys()) == 1
    assert client.get(DATASET).json["newest_version"] == 1
    assert upload(client, "mass\n3\n").json["version"] == 3
    assert installation.referrers.asked == [(installation.project, "penguins", 2)]


def test_a_dataset_is_deleted_with_all_its_versions(installation, client):
    assert client.delete(DATASET).status_code == 204
    assert_problem(client.get(DATASET), 404)
    assert installation.stored_keys() == []
    assert installation.referrers.asked == [(installation.project, "penguins", None)]
    make_dataset(client)
    assert client.get(DATASET + "/versions").json["items"] == []


def test_what_is_referred_to_stays_as_it_was(installation, client):
    before = client.get(VERSION)
    installation.referrers.found = [RUN]
    for path in (VERSION, DATASET):
        problem = assert_problem(client.delete(path), 409)
        assert problem["referrers"] == [
            {
                "service": "training",
                "subject": "training-runs/7",
                "state": "running",
                "reason": "It trains on it",
            }
        ]
    assert client.get(VERSION).headers["ETag"] == before.headers["ETag"]
    assert hold(installation, 1).status_code == 201


def test_a_referrer_that_can_not_be_asked_forbids_it(installation, client):
    installation.referrers.away = True
    assert_problem(client.delete(VERSION), 503)
    assert hold(installation, 1).status_code == 201


def test_a_dry_run_tells_and_does_nothing(installation, client):
    hold(installation, 1)
    installation.referrers.found = [RUN]
    answer = client.delete(DATASET + "?dry_run=true")
    assert answer.status_code == 200
    plan = answer.json
    assert (plan["versions"], plan["allowed"]) == ([1, 2], False)
    assert [item["service"] for item in plan["referrers"]] == ["datasets", "training"]
    assert client.get(VERSION).status_code == 200
    installation.referrers.found = []
    assert client.delete(DATASET + "/versions/2?dry_run=true").json["allowed"]
    assert_problem(client.delete(VERSION + "?dry_run=maybe"), 422)


def test_nobody_gets_a_hold_while_it_is_being_deleted(installation, client):
    answers = []

    def ask(call, dataset, version):
        answers.append(hold(installation, 1))
        answers.append(upload(client))
        answers.append(client.delete(VERSION))
        return []

    installation.referrers.references = ask
    assert client.delete(DATASET).status_code == 204
    for answer in answers:
        assert_problem(answer, 409)


def test_a_deletion_that_took_too_long_changes_nothing(installation, client):
    def ask(call, dataset, version):
        expire(installation, "removal_until", Version)
        assert hold(installation, 1).status_code == 201
        return []

    installation.referrers.references = ask
    assert_problem(client.delete(VERSION), 409)
    assert client.get(VERSION).status_code == 200


def test_the_mark_of_a_deletion_that_died_is_worth_nothing(installation, client):
    installation.service.removal._mark(installation.call(), "penguins", 1)
    assert_problem(hold(installation, 1), 409)
    expire(installation, "removal_until", Version)
    assert hold(installation, 1).status_code == 201
    expire(installation, "until", Hold)
    assert client.delete(VERSION).status_code == 204


def test_a_deletion_is_guarded_by_the_etag(installation, client):
    etag = client.get(VERSION).headers["ETag"]
    assert_problem(client.delete(VERSION, headers={"If-Match": '"x"'}), 412)
    assert client.delete(VERSION, headers={"If-Match": etag}).status_code == 204


def test_of_deletions_at_once_one_succeeds(installation, client):
    key = client.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    statuses = []

    def delete():
        statuses.append(installation.yard.client(key).delete(VERSION).status_code)

    threads = [threading.Thread(target=delete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 404, 409}


def test_a_queued_version_can_be_deleted(installation, client):
    upload(client, Prefer="respond-async")
    assert client.delete(DATASET + "/versions/3").status_code == 204
    installation.work()
    assert not [key for key in installation.stored_keys() if "/uploads/" in key]
