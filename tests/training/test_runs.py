"""Training runs as clients see them, before and without any worker."""

import threading

import pytest

from tests.problems import assert_problem
from tests.training.running import PATH, Running


def test_an_accepted_run_waits_with_its_defaults(running):
    answer = running.submit()

    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{PATH}/{answer.json['id']}"
    assert answer.json["state"] == "queued"
    assert answer.json["estimator"] == "auto"
    assert answer.json["dataset_version"] == 1
    assert running.datasets.holders == [f"training-runs/{answer.json['id']}"]
    assert running.datasets.released == running.datasets.holders
    assert running.client().get(answer.headers["Location"]).json == answer.json


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"model": "Bad Name"}, "/model"),
        ({"dataset": "none"}, "/dataset"),
        ({"dataset_version": 7}, "/dataset_version"),
        ({"dataset_version": 2**40}, "/dataset_version"),
        ({"target": "wing"}, "/target"),
        ({"target": None}, "/target"),
        ({"target": "when"}, "/target"),
        ({"features": ["mass", "wing"]}, "/features/1"),
        ({"features": ["species"]}, "/features/0"),
        ({"features": []}, "/features"),
        ({"task": "regression"}, "/target"),
        ({"task": "magic"}, "/task"),
        ({"estimator": {"name": "os.system"}}, "/estimator/name"),
        (
            {"estimator": {"name": "RandomForestClassifier", "params": {"n_estimators": 10**9}}},
            "/estimator/params/n_estimators",
        ),
        (
            {"estimator": {"name": "RandomForestClassifier", "params": {"n_jobs": -1}}},
            "/estimator/params/n_jobs",
        ),
        ({"validation": {"method": "time_split", "column": "mass"}}, "/validation/column"),
        ({"validation": {"method": "holdout", "test_fraction": 2}}, "/validation/test_fraction"),
        ({"random_state": -1}, "/random_state"),
        ({"random_state": True}, "/random_state"),
        ({"priority": 0}, "/priority"),
        ({"limits": {"wall_seconds": 1e9}}, "/limits/wall_seconds"),
        ({"limits": {"memory_bytes": 1}}, "/limits/memory_bytes"),
        ({"tags": {"a": 1}}, "/tags/a"),
        ({"state": "succeeded"}, "/state"),
        ({"storage_key": "x"}, "/storage_key"),
    ],
)
def test_what_cannot_be_trained_is_pointed_at(sqlite_running, wanted, pointer):
    problem = assert_problem(sqlite_running.submit(**wanted), 422)

    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert sqlite_running.client().get(PATH).json["items"] == []


def test_a_dataset_that_is_being_deleted_is_a_conflict(sqlite_running):
    assert_problem(sqlite_running.submit(dataset="deleting"), 409)


def test_a_request_can_be_checked_without_running_it(running):
    answer = running.submit(query="?validate_only=true", features=["mass"])

    assert answer.status_code == 200, answer.text
    assert answer.json["valid"] is True
    assert answer.json["features"] == ["mass"]
    assert running.client().get(PATH).json["items"] == []
    assert_problem(running.submit(query="?validate_only=true", target="wing"), 422)


def test_eight_at_once_with_one_key_make_one_run(running):
    barrier, answers = threading.Barrier(8), []

    def ask():
        barrier.wait()
        answers.append(running.submit(headers={"Idempotency-Key": "one"}))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len(running.client().get(PATH).json["items"]) == 1


def test_more_than_the_project_may_queue_is_429(tmp_path):
    running = Running(tmp_path, max_queued=2)
    try:
        assert [running.submit().status_code for _ in range(3)] == [202, 202, 429]
        assert running.submit().headers["Retry-After"]
    finally:
        running.close()


def test_more_than_all_projects_together_may_queue_is_503(tmp_path):
    running = Running(tmp_path, max_queued_in_all=2)
    try:
        assert [running.submit().status_code for _ in range(2)] == [202, 202]
        refused = running.submit()
        assert assert_problem(refused, 503)["limit"] == 2
        assert int(refused.headers["Retry-After"]) >= 1
        path = f"{PATH}/{running.client().get(PATH).json['items'][0]['id']}"
        assert running.client().post(f"{path}/cancel").status_code == 202
        assert running.submit().status_code == 202
    finally:
        running.close()


def test_a_queued_run_is_cancelled_at_once_and_only_once(running):
    path = running.submit().headers["Location"]
    client = running.client()
    assert_problem(client.delete(path), 409)

    cancelled = client.post(f"{path}/cancel")

    assert cancelled.status_code == 202
    assert cancelled.json["state"] == "cancelled"
    assert_problem(client.post(f"{path}/cancel"), 409)
    kinds = [event["type"] for event in client.get(f"{path}/events").json["items"]]
    assert kinds == ["queued", "cancelled"]
    assert client.delete(path).status_code == 204
    assert_problem(client.get(path), 404)


def test_tags_are_replaced_under_if_match(running):
    path = running.submit(tags={"a": "1"}).headers["Location"]
    client = running.client()
    tag = client.get(path).headers["ETag"]

    assert client.patch(path, json={"tags": {"b": "2"}}, headers={"If-Match": tag}).json[
        "tags"
    ] == {"b": "2"}
    assert_problem(client.patch(path, json={"tags": {}}, headers={"If-Match": tag}), 412)
    assert_problem(client.patch(path, json={"state": "failed"}), 422)


def test_waiting_ends_at_a_change(running):
    path = running.submit().headers["Location"]
    client = running.client()
    tag = client.get(path).headers["ETag"]
    assert client.get(f"{path}?wait=1", headers={"If-None-Match": tag}).status_code == 304
    timer = threading.Timer(0.3, lambda: running.client().post(f"{path}/cancel"))
    timer.start()

    changed = client.get(f"{path}?wait=20", headers={"If-None-Match": tag})

    timer.join()
    assert changed.status_code == 200
    assert changed.json["state"] == "cancelled"


def test_runs_are_filtered(running):
    running.submit(model="a")
    running.submit(model="b", estimator={"name": "LogisticRegression"})
    client = running.client()

    def models(query):
        return [run["model"] for run in client.get(f"{PATH}?{query}").json["items"]]

    assert models("order_by=model") == ["a", "b"]
    assert models("estimator__eq=LogisticRegression") == ["b"]
    assert models("state__in=queued,running&model__prefix=a") == ["a"]
    assert_problem(client.get(f"{PATH}?accuracy__gt=1"), 422)


def test_what_refers_to_a_dataset_is_told_to_peers(running):
    path = running.submit().headers["Location"]
    peer = running.peer("references:read")

    def subjects(query):
        items = peer.get(f"/api/v1/references/training?{query}").json["items"]
        return [f"/api/v1/{item['subject']}" for item in items]

    assert subjects("dataset=penguins&version=1") == [path]
    assert subjects("dataset=penguins&version=2") == []
    assert subjects("model=penguins") == [path]
    running.client().post(f"{path}/cancel")
    assert subjects("dataset=penguins") == []


def test_the_catalogue_is_listed_and_described(sqlite_running):
    client = sqlite_running.client()
    forest = client.get("/api/v1/estimators/RandomForestClassifier").json

    assert forest["parameters"]["properties"]["n_estimators"]["maximum"] == 5000
    listed = client.get("/api/v1/estimators?task=clustering").json["items"]
    assert "KMeans" in [entry["name"] for entry in listed]
    assert_problem(client.get("/api/v1/estimators/os.system"), 404)


def test_a_cancel_without_a_body_takes_an_idempotency_key(sqlite_running):
    """The fingerprint of a request without a body once asked for the digest of an upload."""
    path = sqlite_running.submit().headers["Location"]

    answers = [
        sqlite_running.client().post(f"{path}/cancel", headers={"Idempotency-Key": "c"})
        for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [202, 202]
