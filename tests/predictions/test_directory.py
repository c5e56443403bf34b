"""Locations and bytes that have gone out of date: asked for anew, told of, refused."""

from pathlib import Path

import pytest

from app.factory import create_app
from app.kernel.errors import Unavailable
from app.predictions.directory import Reference
from app.wiring import Wiring
from tests.predictions.predicting import ROW, Predicting

OLD, NEW = "o" * 40, "n" * 40
BODY = {"inputs": [ROW]}


@pytest.fixture
def one_predicting(tmp_path):
    """Over SQLite: what the database is has no part in this."""
    made = Predicting(tmp_path)
    yield made
    made.close()


def predict(yard, model, query=""):
    return yard.client().post(f"/api/v1/models/{model}/predict{query}", json=BODY)


def state_of(yard, model):
    return yard.client().get(f"/api/v1/models/{model}/versions/1").json["state"]


def is_corrupt(answer):
    return (answer.status_code, answer.json["type"]) == (503, "/problems/corrupt")


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def files_of(yard, model):
    """The stored files of a model's first version."""
    store = Path(yard.settings.store().removeprefix("file://"))
    call = yard.call()
    return [store / artifact.key for artifact in yard.models.versions.get(call, model, 1).artifacts]


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("model", ["fast", "slow"])
def test_a_version_whose_bytes_are_wrong_is_refused_and_shows_it(one_predicting, model, harm):
    """The client saw 503 time and again, while the models service went on calling it ready."""
    kept = {path: path.read_bytes() for path in files_of(one_predicting, model)}
    for path in kept:
        harm(path)
    assert is_corrupt(predict(one_predicting, model))
    assert state_of(one_predicting, model) == "corrupt"
    assert is_corrupt(predict(one_predicting, model, "?version=1"))

    for path, content in kept.items():
        path.write_bytes(content)
    verified = one_predicting.client().post(f"/api/v1/models/{model}/versions/1/verify")
    assert verified.json["state"] == "ready"
    assert predict(one_predicting, model, "?version=1").status_code == 200


def test_a_corrupt_version_is_looked_at_once(one_predicting):
    models = one_predicting.wiring.directory._models
    verify, looked = models.verify, []
    models.verify = lambda *which: looked.append(which) or verify(*which)
    alias = "/api/v1/models/fast/aliases/champion"
    assert one_predicting.client().put(alias, json={"version": 1}).status_code == 201
    for path in files_of(one_predicting, "fast"):
        flip(path)
    for query in ("", "?version=1", "?alias=champion", ""):
        assert is_corrupt(predict(one_predicting, "fast", query))
    assert len(looked) == 1


def test_wrong_bytes_are_refused_also_when_nobody_can_be_told(one_predicting):
    def away(*_):
        raise Unavailable("away")

    one_predicting.wiring.directory._models.verify = away
    for path in files_of(one_predicting, "fast"):
        flip(path)
    assert is_corrupt(predict(one_predicting, "fast"))


def test_a_model_made_anew_under_its_old_name_is_found_before_its_event_comes(one_predicting):
    yard = one_predicting
    directory = yard.wiring.directory
    directory.locate(yard.call(), Reference("fast"))
    assert yard.client().delete("/api/v1/models/fast").status_code == 204
    yard.make("fast", yard.pipelines["slow"].named_steps["model"])
    assert predict(yard, "fast").json["engine"] == "sklearn"


def test_a_deleted_version_is_not_there_before_its_event_comes(one_predicting):
    yard = one_predicting
    yard.wiring.directory.locate(yard.call(), Reference("fast"))
    assert yard.client().delete("/api/v1/models/fast").status_code == 204
    assert predict(yard, "fast").status_code == 404


def test_a_location_of_a_retired_secret_is_asked_for_anew(tmp_path):
    """After `doctor --repair` had signed anew, predictions failed until the server's restart."""
    before = Predicting(tmp_path, secret=OLD)
    during = Wiring(before.settings.with_(secret=f"{NEW},{OLD}"))
    after = Wiring(before.settings.with_(secret=NEW))
    client = create_app(after.settings, after).test_client()
    headers = {"Authorization": f"Bearer {before.admin_key}"}

    def predicted():
        return client.post("/api/v1/models/fast/predict", json=BODY, headers=headers)

    refused = predicted()
    assert (refused.status_code, refused.json["type"]) == (503, "/problems/secret-retired")
    during.models.collector.run()
    assert predicted().status_code == 200
    for wiring in (before, during, after):
        wiring.close()
