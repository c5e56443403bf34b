"""Projects and keys: made, shown once, bounded by their maker, revoked."""

import pytest

from app.access.service import ROLES
from tests.problems import assert_problem


def make(client, **body):
    return client.post("/api/v1/keys", json={"name": "n", **body})


def test_a_key_is_shown_once_and_works(yard):
    made = make(yard.client(), role="viewer")

    assert made.status_code == 201
    secret = made.json["secret"]
    assert yard.client(secret).get("/api/v1/events").status_code == 200
    listed = yard.client().get(made.headers["Location"])
    assert "secret" not in listed.json
    assert secret.split("_", 2)[2] not in listed.text


def test_the_first_admin_key_is_made_once(yard):
    assert yard.admin_key.startswith("myk_")
    assert yard.wiring.access.ensure_admin() is None


def test_a_missing_scope_is_403_and_named(yard):
    problem = assert_problem(yard.client(yard.key(role="viewer")).get("/api/v1/keys"), 403)

    assert problem["scope"] == "keys:admin"


def test_a_revoked_key_is_401_within_seconds(yard):
    key = yard.key(role="viewer")
    path = f"/api/v1/keys/{key.split('_')[1]}"
    assert yard.client().delete(path).status_code == 204

    answer = yard.client(key).get("/api/v1/events")

    assert_problem(answer, 401)
    assert yard.client().get(path).json["revoked_at"]


def test_an_expired_key_is_401(yard):
    problem = assert_problem(
        make(yard.client(), role="viewer", expires_at="2001-01-01T00:00:00Z"), 422
    )
    assert problem["errors"][0]["pointer"] == "/expires_at"


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": ["projects:admin"]},
        {"role": "admin"},
        {"scopes": ["keys:admin"], "project": "other"},
    ],
)
def test_a_key_can_make_none_that_may_do_more(yard, body):
    yard.key(project="other", role="viewer")
    key = yard.key(scopes=["keys:admin", "datasets:read"])

    assert_problem(make(yard.client(key), **body), 403)


def test_a_key_can_make_none_that_outlives_it(yard):
    made = make(yard.client(), scopes=["keys:admin"], expires_at="2999-01-01T00:00:00Z").json
    client = yard.client(made["secret"])

    assert_problem(make(client, scopes=["keys:admin"]), 403)
    assert_problem(make(client, scopes=["keys:admin"], expires_at="2999-01-02T00:00:00Z"), 403)
    assert make(client, scopes=["keys:admin"], expires_at="2998-01-01T00:00:00Z").status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scopes": []},
        {"scopes": ["datasets:write", "nothing:write"]},
        {"scopes": ["references:read"]},
        {"role": "god"},
        {"role": "viewer", "project": "nowhere"},
        {"role": "viewer", "expires_at": "tomorrow"},
        {"role": "viewer", "key_id": "AAAAAAAA"},
    ],
)
def test_a_bad_key_request_is_422(yard, body):
    assert_problem(make(yard.client(), **body), 422)


def test_the_last_admin_key_cannot_be_revoked(yard):
    own = f"/api/v1/keys/{yard.admin_key.split('_')[1]}"
    assert_problem(yard.client().delete(own), 409)

    other = yard.key(role="admin")

    assert yard.client(other).delete(own).status_code == 204


def test_keys_of_another_project_are_not_there(yard):
    mine = yard.key(role="viewer")
    theirs = yard.client(yard.key(project="other", scopes=["keys:admin"]))

    path = f"/api/v1/keys/{mine.split('_')[1]}"

    assert_problem(theirs.get(path), 404)
    assert_problem(theirs.delete(path), 404)
    assert [item["project"] for item in theirs.get("/api/v1/keys").json["items"]] == ["other"]


def test_a_repeated_answer_has_no_secret(yard):
    client = yard.client()
    body = {"name": "n", "role": "viewer"}
    first = client.post("/api/v1/keys", json=body, headers={"Idempotency-Key": "k"})
    again = client.post("/api/v1/keys", json=body, headers={"Idempotency-Key": "k"})

    assert first.json["secret"]
    assert again.json["secret"] is None
    assert again.json["key_id"] == first.json["key_id"]


def test_roles_grow(yard):
    assert ROLES["viewer"] < ROLES["trainer"] < ROLES["admin"]
    assert ROLES["predictor"] < ROLES["trainer"] | {"x"}


def test_lists_page_through_everything_once(yard):
    for number in range(7):
        make(yard.client(), name=f"k{number}", role="viewer")
    seen, token = [], None
    while True:
        query = {"page_size": 3, "order_by": "name", **({"page_token": token} if token else {})}
        page = yard.client().get("/api/v1/keys", query_string=query).json
        seen += [item["name"] for item in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break

    assert seen == sorted(seen)
    assert len(seen) == 8


def test_a_page_token_of_another_list_or_project_is_refused(yard):
    for number in range(3):
        make(yard.client(), name=f"k{number}", role="viewer")
    token = yard.client().get("/api/v1/keys?page_size=1").json["next_page_token"]
    other = yard.client(yard.key(project="other", scopes=["keys:admin"]))

    query = {"page_token": token, "page_size": 1}
    assert_problem(other.get("/api/v1/keys", query_string=query), 422)
    assert_problem(yard.client().get("/api/v1/projects", query_string=query), 422)
    query["name__eq"] = "k1"
    assert_problem(yard.client().get("/api/v1/keys", query_string=query), 422)
