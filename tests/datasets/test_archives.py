"""Records of a topic become versions, each once however often they are sent."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.datasets.tables import Version
from app.kernel.auth import make_peer_token
from tests.datasets.installation import make_dataset
from tests.problems import assert_problem

PART = {"source": "p.0", "topic": "flights", "processor": "kept", "partition": 0}


@pytest.fixture
def client(installation):
    """A client of a dataset without versions."""
    client = installation.client()
    make_dataset(client)
    return client


def archive(installation, first, end, rows=None, dataset="penguins", **part):
    """What a processor sends of a partition."""
    token = make_peer_token(
        installation.wiring.ring,
        service="streams",
        project=installation.project,
        scopes=frozenset({"datasets:archive"}),
        lifetime=60,
    )
    return installation.yard.client(token).post(
        f"/api/v1/datasets/{dataset}/archives",
        json=[{"n": n} for n in range(first, end)] if rows is None else rows,
        query_string={**PART, "first": first, "next": end, **part},
    )


def versions(client):
    """How many rows each version has, from the first one on."""
    found = client.get("/api/v1/datasets/penguins/versions?order_by=version").json["items"]
    return [(one["version"], one["rows"]) for one in found]


def test_a_version_tells_which_records_it_was_made_of(installation, client):
    made = archive(installation, 0, 5)
    assert made.status_code == 201, made.text
    offsets = [{"partition": 0, "first": 0, "next": 5}]
    origin = {"topic": "flights", "processor": "kept", "offsets": offsets}
    assert made.json["origin"] == origin
    shown = client.get("/api/v1/datasets/penguins/versions/1").json
    assert (shown["origin"], shown["rows"]) == (origin, 5)


def test_the_same_records_again_are_the_version_that_is_there(installation, client):
    first = archive(installation, 0, 5)
    for end in (5, 3, 9):
        again = archive(installation, 0, end)
        assert again.status_code == 200
        assert again.json == first.json
    assert archive(installation, 3, 9).json["version"] == 1
    assert versions(client) == [(1, 5)]
    assert len(installation.stored_keys()) == 1


def test_what_comes_next_is_the_next_version_and_anothers_is_its_own(installation, client):
    archive(installation, 0, 5)
    assert archive(installation, 5, 7).json["version"] == 2
    assert archive(installation, 0, 5, source="p.1").json["version"] == 3
    assert archive(installation, 0, 5, partition=1).json["version"] == 4
    assert versions(client) == [(1, 5), (2, 2), (3, 5), (4, 5)]


def test_records_of_which_later_ones_are_archived_are_refused(installation, client):
    archive(installation, 5, 9)
    assert_problem(archive(installation, 2, 6), 409)
    assert archive(installation, 2, 5).status_code == 201
    assert versions(client) == [(1, 4), (2, 3)]


def test_of_many_who_send_the_same_at_once_one_makes_the_version(installation, client):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda end: archive(installation, 0, end), (5, 6, 7, 8)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 200, 201]
    assert len({answer.json["digest"] for answer in answers}) == 1
    assert len(versions(client)) == 1
    assert len(installation.stored_keys()) == 1


def test_rows_that_are_no_table_leave_nothing_and_can_be_sent_otherwise(installation, client):
    problem = assert_problem(archive(installation, 0, 3, [{"n": 1}, {"n": [2]}, {"n": 3}]), 422)
    assert [one["pointer"] for one in problem["errors"]] == ["/rows/2/n"]
    assert_problem(archive(installation, 3, 3), 422)
    assert archive(installation, 0, 1).status_code == 201
    assert versions(client) == [(1, 1)]


def test_a_deleted_version_frees_its_place(installation, client):
    archive(installation, 0, 5)
    assert client.delete("/api/v1/datasets/penguins/versions/1").status_code == 204
    assert archive(installation, 0, 5).json["version"] == 2


def test_only_services_of_ours_archive(installation, client):
    query = {**PART, "first": 0, "next": 1}
    path = "/api/v1/datasets/penguins/archives"
    assert_problem(client.post(path, json=[{"n": 1}], query_string=query), 403)
    uploaded = client.post("/api/v1/datasets/penguins/versions", json=[{"n": 1}])
    assert uploaded.json["origin"] is None


def test_in_another_dataset_records_are_not_archived_again(installation, client):
    archive(installation, 0, 5)
    with installation.wiring.database("datasets").read() as session:
        [row] = session.query(Version).filter_by(project=installation.project)
    assert (row.origin_first, row.origin_next) == (0, 5)
    make_dataset(client, name="others")
    again = archive(installation, 0, 1, dataset="others")
    assert (again.status_code, again.json["dataset"]) == (200, "penguins")
