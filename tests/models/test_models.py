"""Models as clients see them: creating, reading, changing, listing."""

import pytest

from tests.models.modelyard import API, Modelyard, pointers

MODELS = f"{API}/models"


def test_a_model_is_created_once(any_yard: Modelyard) -> None:
    client = any_yard.client()
    made = client.post(MODELS, json={"name": "penguins", "tags": {"team": "birds"}})
    assert made.status_code == 201
    assert made.headers["Location"] == f"{MODELS}/penguins"
    assert made.json["newest_version"] is None
    assert made.json["aliases"] == {}
    again = client.post(MODELS, json={"name": "penguins"})
    assert again.status_code == 409
    assert any_yard.events() == [("model.created", {"model": "penguins"})]


def test_a_retry_with_its_idempotency_key_gets_the_first_answer(any_yard: Modelyard) -> None:
    client = any_yard.client()
    first, second = (
        client.post(MODELS, json={"name": "penguins"}, headers={"Idempotency-Key": "k1"})
        for _ in range(2)
    )
    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["ETag"] == first.headers["ETag"]


def test_a_patch_changes_what_it_names(yard: Modelyard) -> None:
    client = yard.client()
    client.post(MODELS, json={"name": "penguins", "description": "old", "tags": {"a": "1"}})
    changed = client.patch(f"{MODELS}/penguins", json={"retention": {"max_rows": 5}})
    assert changed.json["description"] == "old"
    assert changed.json["tags"] == {"a": "1"}
    assert changed.json["retention"] == {"max_rows": 5}
    cleared = client.patch(f"{MODELS}/penguins", json={"retention": None})
    assert cleared.json["retention"] is None
    assert yard.events()[-1] == ("model.updated", {"model": "penguins", "retention": None})


def test_the_etag_guards_a_patch(any_yard: Modelyard) -> None:
    client = any_yard.client()
    etag = client.post(MODELS, json={"name": "penguins"}).headers["ETag"]
    guarded = {"If-Match": etag}
    first = client.patch(f"{MODELS}/penguins", json={"description": "a"}, headers=guarded)
    second = client.patch(f"{MODELS}/penguins", json={"description": "b"}, headers=guarded)
    assert (first.status_code, second.status_code) == (200, 412)
    assert client.get(f"{MODELS}/penguins").json["description"] == "a"


def test_a_model_changes_its_etag_with_its_versions_and_aliases(any_yard: Modelyard) -> None:
    client = any_yard.client()
    tags = [client.post(MODELS, json={"name": "penguins"}).headers["ETag"]]
    any_yard.register()
    tags.append(client.get(f"{MODELS}/penguins").headers["ETag"])
    any_yard.put_alias("champion", 1)
    shown = client.get(f"{MODELS}/penguins")
    assert shown.json["aliases"] == {"champion": 1}
    assert len({*tags, shown.headers["ETag"]}) == 3
    unchanged = client.get(f"{MODELS}/penguins", headers={"If-None-Match": shown.headers["ETag"]})
    assert unchanged.status_code == 304


def test_the_bare_name_means_the_champion_else_the_newest(yard: Modelyard) -> None:
    client = yard.client()
    for _ in range(2):
        yard.register()
    assert client.get(f"{MODELS}/penguins").json["default_version"] == 2
    yard.put_alias("champion", 1)
    assert client.get(f"{MODELS}/penguins").json["default_version"] == 1


def test_models_are_listed_in_pages(any_yard: Modelyard) -> None:
    client = any_yard.client()
    for name in ("a", "b", "c"):
        client.post(MODELS, json={"name": name})
    first = client.get(f"{MODELS}?page_size=2&order_by=name").json
    token = first["next_page_token"]
    second = client.get(f"{MODELS}?page_size=2&order_by=name&page_token={token}").json
    assert [item["name"] for item in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next_page_token"] is None
    assert [m["name"] for m in client.get(f"{MODELS}?name__prefix=b").json["items"]] == ["b"]


def test_another_projects_model_is_not_found(yard: Modelyard) -> None:
    yard.register()
    yard.put_alias("champion", 1)
    other = yard.client(yard.key(project="team-b", role="maintainer"))
    below = ("", "/versions", "/versions/1", "/versions/1/artifacts/joblib")
    aliases = ("/aliases", "/aliases/champion", "/aliases/champion/history")
    for path in (*below, *aliases):
        assert other.get(f"{MODELS}/penguins{path}").status_code == 404, path
    assert other.delete(f"{MODELS}/penguins").status_code == 404
    assert other.patch(f"{MODELS}/penguins", json={}).status_code == 404
    assert other.put(f"{MODELS}/penguins/aliases/x", json={"version": 1}).status_code == 404
    assert other.post(f"{MODELS}/penguins/aliases/champion/rollback").status_code == 404
    assert other.get(MODELS).json["items"] == []


@pytest.mark.parametrize(
    "smuggled",
    ["id", "project", "state", "source", "path", "storage_key", "newest_version", "row_version"],
)
def test_what_the_server_decides_cannot_be_sent(shared_yard: Modelyard, smuggled: str) -> None:
    answer = shared_yard.client().post(MODELS, json={"name": "penguins", smuggled: "x"})
    assert answer.status_code == 422
    assert pointers(answer) == [f"/{smuggled}"]


@pytest.mark.parametrize("name", ["", "Penguins", "a/b", "../etc", "a b", "é", "a" * 64, "-a"])
def test_a_bad_name_is_refused(shared_yard: Modelyard, name: str) -> None:
    answer = shared_yard.client().post(MODELS, json={"name": name})
    assert (answer.status_code, pointers(answer)) == (422, ["/name"])


@pytest.mark.parametrize(
    ("retention", "place"),
    [
        ({"max_rows": 0}, "/retention/max_rows"),
        ({"max_age_days": True}, "/retention/max_age_days"),
        ({"days": 1}, "/retention/days"),
    ],
)
def test_a_bad_retention_is_refused(shared_yard: Modelyard, retention: object, place: str) -> None:
    answer = shared_yard.client().post(MODELS, json={"name": "a", "retention": retention})
    assert (answer.status_code, pointers(answer)) == (422, [place])


@pytest.mark.parametrize("query", ["limt=5", "order_by=-size", "page_size=0", "name__like=x"])
def test_an_unknown_query_is_refused(shared_yard: Modelyard, query: str) -> None:
    answer = shared_yard.client().get(f"{MODELS}?{query}")
    assert (answer.status_code, pointers(answer)) == (422, [f"?{query.partition('=')[0]}"])


def test_reading_needs_one_scope_and_writing_another(yard: Modelyard) -> None:
    reader = yard.client(yard.key(scopes=["models:read"]))
    writer = yard.client(yard.key(scopes=["models:write"]))
    assert reader.post(MODELS, json={"name": "a"}).status_code == 403
    assert writer.post(MODELS, json={"name": "a"}).status_code == 201
    assert writer.get(MODELS).status_code == 403
    assert reader.get(f"{MODELS}/a").status_code == 200
    assert yard.client("").get(MODELS).status_code == 401
