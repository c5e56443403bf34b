"""Datasets as names: made, listed, changed, kept apart by project."""

import io

import pytest

from tests.datasets.installation import make_dataset
from tests.problems import assert_problem


def test_a_new_dataset_has_no_version(installation):
    client = installation.client()
    made = make_dataset(client, tags={"year": "2009"}, description="Palmer")
    assert made.headers["Location"] == "/api/v1/datasets/penguins"
    assert made.json["newest_version"] is None
    assert made.json["version"] is None
    found = client.get(made.headers["Location"])
    assert found.headers["ETag"] == made.headers["ETag"]
    assert (found.json["description"], found.json["tags"]) == ("Palmer", {"year": "2009"})


def test_a_name_is_taken_once_in_a_project(installation):
    client = installation.client()
    make_dataset(client)
    assert_problem(client.post("/api/v1/datasets", json={"name": "penguins"}), 409)
    make_dataset(installation.client(of="other", role="trainer"))


def test_a_dataset_without_a_file_takes_what_generated_clients_always_send(on_sqlite):
    """A form's parameters had defaults in the spec, which JSON was then refused for."""
    path = "/api/v1/datasets?decimal=.&on_error=fail"
    made = on_sqlite.client().post(path, json={"name": "penguins"})
    assert made.status_code == 201


@pytest.mark.parametrize(
    ("query", "pointer"), [("decimal=,", "?decimal"), ("format=csv", "?format")]
)
def test_how_to_read_is_not_told_without_a_file(on_sqlite, query, pointer):
    answer = on_sqlite.client().post(f"/api/v1/datasets?{query}", json={"name": "penguins"})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("name", ["", "Penguins", "../x", "a" * 64, "-x", "x/y", 7, None])
def test_a_name_that_is_no_name_is_refused(on_sqlite, name):
    answer = on_sqlite.client().post("/api/v1/datasets", json={"name": name})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/name"


def test_a_dataset_of_another_project_is_not_there(installation):
    make_dataset(installation.client())
    other = installation.client(of="other", role="trainer")
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/versions"),
        ("GET", "/versions/1"),
        ("GET", "/versions/1/rows"),
        ("GET", "/versions/1/content"),
        ("GET", "/versions/1/rejects"),
        ("DELETE", "/versions/1"),
        ("POST", "/versions"),
    ]:
        body = {"data": "{}", "content_type": "application/json"}
        answer = other.open(f"/api/v1/datasets/penguins{path}", method=method, **body)
        assert_problem(answer, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/datasets"),
        ("PATCH", "/api/v1/datasets/penguins"),
        ("DELETE", "/api/v1/datasets/penguins"),
        ("POST", "/api/v1/datasets/penguins/versions"),
        ("DELETE", "/api/v1/datasets/penguins/versions/1"),
        ("POST", "/api/v1/datasets/penguins/holds"),
    ],
)
def test_who_may_only_read_changes_nothing(on_sqlite, method, path):
    viewer = on_sqlite.client(role="viewer")
    assert_problem(viewer.open(path, method=method, json={}), 403)


def test_no_key_can_take_a_hold(on_sqlite):
    make_dataset(on_sqlite.client())
    hold = {"holder": "training-runs/1", "seconds": 60}
    assert_problem(on_sqlite.client().post("/api/v1/datasets/penguins/holds", json=hold), 403)


def test_a_change_is_guarded_by_the_etag(installation):
    client = installation.client()
    first = make_dataset(client).headers["ETag"]
    path = "/api/v1/datasets/penguins"
    changed = client.patch(path, json={"description": "new"}, headers={"If-Match": first})
    assert (changed.status_code, changed.json["description"]) == (200, "new")
    assert_problem(client.patch(path, json={"tags": {}}, headers={"If-Match": first}), 412)
    assert_problem(client.delete(path, headers={"If-Match": first}), 412)
    assert client.delete(path, headers={"If-Match": changed.headers["ETag"]}).status_code == 204


def test_a_change_leaves_what_it_does_not_name(on_sqlite):
    client = on_sqlite.client()
    make_dataset(client, description="Palmer", tags={"a": "1"})
    changed = client.patch("/api/v1/datasets/penguins", json={"tags": {"b": "2"}})
    assert (changed.json["description"], changed.json["tags"]) == ("Palmer", {"b": "2"})
    answer = client.patch("/api/v1/datasets/penguins", json={"name": "x"})
    assert assert_problem(answer, 422)["errors"][0]["code"] == "unknown_field"


def test_what_a_client_has_is_not_sent_again(on_sqlite):
    client = on_sqlite.client()
    etag = make_dataset(client).headers["ETag"]
    answer = client.get("/api/v1/datasets/penguins", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.data) == (304, b"")


def test_a_list_is_paged_filtered_and_ordered(installation):
    client = installation.client()
    for name in ("ants", "bees", "beetles", "cats"):
        make_dataset(client, name)
    page = client.get("/api/v1/datasets?order_by=name&page_size=3").json
    assert [item["name"] for item in page["items"]] == ["ants", "bees", "beetles"]
    rest = client.get(
        "/api/v1/datasets",
        query_string={"order_by": "name", "page_size": 3, "page_token": page["next_page_token"]},
    ).json
    assert [item["name"] for item in rest["items"]] == ["cats"]
    assert rest["next_page_token"] is None
    found = client.get("/api/v1/datasets?name__prefix=bee&order_by=-name").json["items"]
    assert [item["name"] for item in found] == ["beetles", "bees"]
    found = client.get("/api/v1/datasets?name__in=cats,dogs").json["items"]
    assert [item["name"] for item in found] == ["cats"]
    assert client.get("/api/v1/datasets?created_at__lt=2020-01-01T00:00:00Z").json["items"] == []


@pytest.mark.parametrize("query", ["nam__eq=x", "name__like=x", "page_size=0", "order_by=tags"])
def test_an_unknown_filter_is_refused(on_sqlite, query):
    answer = on_sqlite.client().get(f"/api/v1/datasets?{query}")
    assert assert_problem(answer, 422)["errors"][0]["pointer"].startswith("?")


def test_a_retry_with_the_same_key_makes_one_dataset(installation):
    client = installation.client()
    headers = {"Idempotency-Key": "once"}
    first = client.post("/api/v1/datasets", json={"name": "penguins"}, headers=headers)
    again = client.post("/api/v1/datasets", json={"name": "penguins"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json, again.headers["ETag"]) == (first.json, first.headers["ETag"])
    assert_problem(client.post("/api/v1/datasets", json={"name": "x"}, headers=headers), 422)


def test_how_to_read_means_nothing_without_a_file(on_sqlite):
    answer = on_sqlite.client().post("/api/v1/datasets?delimiter=;", json={"name": "x"})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "?delimiter"


def test_every_change_is_an_event_and_in_the_audit(installation):
    client = installation.client()
    make_dataset(client)
    client.patch("/api/v1/datasets/penguins", json={"description": "x"})
    client.delete("/api/v1/datasets/penguins")
    events = client.get("/api/v1/events?source=datasets").json["items"]
    assert [event["type"] for event in events] == [
        "modelyard.dataset.created",
        "modelyard.dataset.updated",
        "modelyard.dataset.deleted",
    ]
    actions = [item["action"] for item in client.get("/api/v1/audit").json["items"]]
    assert actions[:3] == ["dataset.deleted", "dataset.updated", "dataset.created"]


def test_a_form_needs_a_digest_for_its_idempotency_key(on_sqlite):
    answer = on_sqlite.client().post(
        "/api/v1/datasets",
        data={"name": "x", "file": (io.BytesIO(b"a\n1\n"), "t.csv")},
        headers={"Idempotency-Key": "once"},
    )
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "Content-Digest"
