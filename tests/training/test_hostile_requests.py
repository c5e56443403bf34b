"""What an attacker asks to be trained: refused soon, in few words, and no file is named by it."""

import time

import pytest

from tests.problems import assert_problem
from tests.training.running import PATH


def refused_soon(running, **wanted):
    """The problem of a request that is refused before it has cost much."""
    started = time.monotonic()
    answer = running.submit(**wanted)
    assert time.monotonic() - started < 15
    assert len(answer.data) < 200_000, len(answer.data)
    assert answer.status_code in (413, 422), answer.text[:300]
    return answer.json


MANY = 20_000
NESTED = {"name": "BaggingClassifier", "params": {"estimator": {"name": "Ridge"}}}


@pytest.mark.parametrize(
    "estimator",
    [
        {"name": "Ridge", "params": {f"alpha{number}": 1 for number in range(MANY)}},
        {"name": "Ridge", "params": {f"a__{number}": 1 for number in range(MANY)}},
        {"name": "x" * 1_000_000},
        {"steps": [{"name": f"Ridgy{number}"} for number in range(MANY)]},
        {f"name{number}": "Ridge" for number in range(MANY)},
        {"name": "MLPClassifier", "params": {"hidden_layer_sizes": ["a"] * MANY}},
        {"name": "VotingClassifier", "params": {"estimators": [NESTED] * MANY}},
        {
            "name": "GridSearchCV",
            "params": {"estimator": {"name": "Ridge"}, "param_grid": {"alpha": [1] * MANY}},
        },
        {"name": "GridSearchCV", "params": {"param_grid": [{}] * MANY}},
        {"name": {"name": {"name": "Ridge"}}},
        [["Ridge"]] * MANY,
    ],
    ids=range(11),
)
def test_a_huge_estimator_is_refused_soon(sqlite_running, estimator):
    """The bug: for each unknown parameter the names most like it were looked for: half an hour."""
    assert refused_soon(sqlite_running, estimator=estimator)["errors"]


@pytest.mark.parametrize(
    "features",
    [
        [f"unknown{number}" for number in range(10_000)],
        ["mass"] * 10_000,
        [1] * MANY,
        ["mass"] * MANY,
        [{}] * MANY,
        ["x" * 10_000] * 1000,
    ],
    ids=range(6),
)
def test_very_many_features_are_refused_soon(sqlite_running, features):
    """The bug: each of ten thousand refusals told all columns again."""
    assert len(refused_soon(sqlite_running, features=features)["errors"]) <= 100


@pytest.mark.parametrize(
    "smuggled",
    [
        "id",
        "state",
        "progress",
        "error",
        "metrics",
        "model_version",
        "dataset_storage",
        "dataset_uri",
        "artifact_location",
        "source",
        "path",
        "command",
        "entry_point",
        "callback_url",
        "webhook",
        "project",
        "attempt",
        "created_by",
        "env",
    ],
)
def test_what_the_server_decides_cannot_be_sent(sqlite_running, smuggled):
    problem = assert_problem(sqlite_running.submit(**{smuggled: "http://127.0.0.1:1/"}), 422)
    assert problem["errors"][0]["pointer"] == f"/{smuggled}"


@pytest.mark.parametrize("smuggled", ["state", "metrics", "model_version", "priority", "error"])
def test_a_run_is_moved_by_its_work_and_not_by_a_client(sqlite_running, smuggled):
    path = sqlite_running.submit().headers["Location"]
    client = sqlite_running.client()
    assert_problem(client.patch(path, json={"tags": {}, smuggled: "succeeded"}), 422)
    assert_problem(client.put(path, json={"state": "succeeded"}), 405)
    assert client.get(path).json["state"] == "queued"


@pytest.mark.parametrize(
    "dataset",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.1/",
        "http://[::ffff:7f00:1]/",
        "file:///etc/passwd",
        "s3://bucket/key",
        "gopher://127.0.0.1:1/",
        "../../etc/passwd",
        "/etc/passwd",
        "penguins.parquet' UNION SELECT",
    ],
)
@pytest.mark.parametrize("field", ["dataset", "model"])
def test_nothing_is_fetched_from_where_a_client_says(sqlite_running, field, dataset):
    problem = assert_problem(sqlite_running.submit(**{field: dataset}), 422)
    assert problem["errors"][0]["pointer"] == f"/{field}"
    assert sqlite_running.datasets.holders == []


@pytest.mark.parametrize("name", ["../Ridge", "os.system", "sklearn.svm.SVC", "__class__", "a\0"])
def test_an_estimator_is_looked_up_and_never_imported(sqlite_running, name):
    answer = sqlite_running.client().get(f"/api/v1/estimators/{name}")
    assert_problem(answer, 404)
    assert len(answer.json.get("did_you_mean", [])) <= 3
    assert_problem(sqlite_running.submit(estimator={"name": name}), 422)


@pytest.mark.parametrize(
    "limits",
    [
        {"wall_seconds": 1e9},
        {"wall_seconds": -1},
        {"wall_seconds": 0},
        {"wall_seconds": "600"},
        {"memory_bytes": 2**62},
        {"memory_bytes": 1},
        {"memory_bytes": True},
        {"processes": 10_000},
        {"network": True},
    ],
)
def test_a_run_cannot_lift_its_limits(sqlite_running, limits):
    assert_problem(sqlite_running.submit(limits=limits), 422)


def test_a_run_of_another_project_is_not_there(sqlite_running):
    path = sqlite_running.submit().headers["Location"]
    stranger = sqlite_running.client(sqlite_running.key(project="other", role="admin"))
    for ask in (stranger.get, stranger.delete):
        assert_problem(ask(path), 404)
    for end in ("/events", "/log"):
        assert_problem(stranger.get(path + end), 404)
    assert_problem(stranger.post(f"{path}/cancel"), 404)
    assert stranger.get(PATH).json["items"] == []
