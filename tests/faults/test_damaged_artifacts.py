"""Artifacts that are not what was stored: refused before they are loaded, told, and alone in it."""

from contextlib import contextmanager

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from app.kernel.sandbox.parent import Sandbox
from tests.predictions.predicting import ROW, Predicting
from tests.training.running import Running

API = "/api/v1"
KINDS = {
    "compiled": lambda number: LogisticRegression(C=1.0 + number),
    "joblib": lambda number: KNeighborsClassifier(
        n_neighbors=7 + 2 * number, weights="distance", algorithm="brute"
    ),
}
HARMS = {
    "flipped": lambda content, other: bytes([content[0] ^ 1]) + content[1:],
    "flipped in the middle": lambda content, other: (
        content[:200] + bytes([content[200] ^ 128]) + content[201:]
    ),
    "cut off": lambda content, other: content[:-1],
    "empty": lambda content, other: b"",
    "grown": lambda content, other: content + b"\0",
    "exchanged": lambda content, other: other,
    "lost": None,
}
QUICK = ("empty", "exchanged")
MARKED = [pytest.param(harm, marks=[pytest.mark.slow] * (harm not in QUICK)) for harm in HARMS]
CORRUPT = (503, "/problems/corrupt", False)
pytestmark = pytest.mark.fault("F15")


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """Has the models ``fast``, served compiled, and ``slow``, served by scikit-learn."""
    made = Predicting(tmp_path_factory.mktemp("damaged"))
    yield made
    made.close()


@contextmanager
def harmed(file, harm, other):
    content = file.read_bytes()
    if HARMS[harm] is None:
        file.unlink()
    else:
        file.write_bytes(HARMS[harm](content, other.read_bytes()))
    yield
    file.write_bytes(content)


def file_of(yard, model, format_):
    version = yard.models.versions.get(yard.call(), model, 1)
    (found,) = (one for one in version.artifacts if one.format == format_)
    return yard.wiring.store._root / found.key


def predict(yard, model):
    return yard.client().post(f"{API}/models/{model}/predict", json={"inputs": [ROW]})


def told(answer):
    return answer.status_code, answer.json["type"], answer.json["retryable"]


@pytest.mark.parametrize("harm", MARKED)
@pytest.mark.parametrize("format_", KINDS)
def test_wrong_bytes_are_refused_and_told_and_their_neighbours_serve(yard, format_, harm):
    number = list(HARMS).index(harm)
    model = f"{format_}-{number}"
    yard.make(model, KINDS[format_](number))
    neighbour = {"compiled": "fast", "joblib": "slow"}[format_]
    path = f"{API}/models/{model}/versions/1"
    file = file_of(yard, model, format_)
    with harmed(file, harm, file_of(yard, neighbour, format_)):
        assert told(predict(yard, model)) == CORRUPT
        shown = yard.client().get(path).json
        assert (shown["state"], shown["error"]["code"]) == ("corrupt", "corrupt")
        assert yard.client().get(f"{API}/models/{model}").json["newest_version"] is None
        assert told(predict(yard, model)) == CORRUPT
        assert predict(yard, neighbour).status_code == 200
        assert yard.client().post(f"{path}/verify").json["state"] == "corrupt"
    assert yard.client().post(f"{path}/verify").json["state"] == "ready"
    assert predict(yard, model).status_code == 200


@pytest.mark.parametrize("format_", KINDS)
def test_a_loaded_model_is_served_until_something_finds_its_file_damaged(yard, format_):
    model = f"{format_}-loaded"
    yard.make(model, KINDS[format_](50))
    path = f"{API}/models/{model}/versions/1"
    file = file_of(yard, model, format_)
    assert predict(yard, model).status_code == 200
    with harmed(file, "flipped", file):
        assert predict(yard, model).status_code == 200
        assert yard.client().post(f"{path}/verify").json["state"] == "corrupt"
        yard.wiring.follower.follow_once(wait=0)
        assert told(predict(yard, model)) == CORRUPT


@pytest.mark.parametrize(("harm", "code"), [("exchanged", "corrupt"), ("lost", "artifact_missing")])
def test_a_run_on_damaged_data_fails_by_that_name(tmp_path, harm, code):
    running = Running(tmp_path / "home")
    files = {
        name: running.wiring.store._root / held.storage["key"]
        for name, held in running.datasets.versions.items()
    }
    damaged = harmed(files["penguins"], harm, files["many"])
    with Sandbox() as sandbox, running.working(sandbox), damaged:
        run = running.ended(running.submit(features=["mass"]))
    assert (run["state"], run["error"]["code"], run["error"]["retryable"]) == (
        "failed",
        code,
        False,
    )
    assert running.client().get(f"{API}/models").json["items"] == []
    running.close()
