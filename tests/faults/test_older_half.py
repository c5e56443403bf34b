"""One half of an installation is an older one again: it is told, and nothing wrong is served."""

import os
import shutil
from contextlib import contextmanager

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from app import backup, restore
from app.administration import examine
from app.factory import create_app
from app.wiring import Wiring
from tests.datasets.installation import Installation, upload
from tests.predictions.predicting import ROW, Predicting

PARQUET = {"Accept": "application/vnd.apache.parquet"}
MODELS = ("fast", "slow")
TABLE = "species,mass\nAdelie,3750\nGentoo,5700\n"


def bad(settings):
    """What the doctor finds out of order."""
    return [found.text for found in examine(settings, repair=False) if not found.well]


def store_of(made):
    return made.settings.home / "models_store"


@pytest.fixture(scope="module")
def predicting(tmp_path_factory):
    """Two versions of each model; ``older`` holds what there was when there was one."""
    made = Predicting(tmp_path_factory.mktemp("halves"))
    older = made.settings.with_(home=made.settings.home / "older")
    backup.back_up(made.settings, made.settings.home / "older.tar")
    restore.restore(older, made.settings.home / "older.tar")
    made.make("fast", LogisticRegression(C=0.1))
    made.make("slow", KNeighborsClassifier(3, weights="distance", algorithm="brute"))
    shutil.copytree(store_of(made), store_of(made).with_name("whole"))
    yield made
    made.close()


@pytest.fixture
def put_back(predicting):
    """Puts another store in place, and the right one afterwards."""

    def put(store):
        shutil.rmtree(store_of(predicting))
        shutil.copytree(predicting.settings.home / store, store_of(predicting))

    yield put
    put("whole")
    predicting.wiring.models.collector.run(deep=True)


@contextmanager
def started_anew(settings, key):
    """Asks for predictions of a process that has nothing in its memory yet."""
    wiring = Wiring(settings)
    client = create_app(settings, wiring).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"

    def predict(model, version):
        path = f"/api/v1/models/{model}/predict?version={version}"
        return client.post(path, json={"inputs": [ROW]})

    yield predict
    wiring.close()


def check_refused(made, model):
    """The second version is out of service, the first one serves."""
    with started_anew(made.settings, made.admin_key) as predict:
        refused = predict(model, 2)
        assert (refused.status_code, refused.json["type"]) == (503, "/problems/corrupt")
        assert predict(model, 1).status_code == 200


@pytest.mark.fault("F16")
@pytest.mark.parametrize("model", MODELS)
def test_a_version_whose_artifacts_the_older_store_lacks_is_told_and_refused(
    predicting, put_back, model
):
    put_back("older/models_store")
    (told,) = [text for text in bad(predicting.settings) if f"/{model}/" in text]
    assert told.startswith(f"models/{model}/versions/2: corrupt: ")
    assert "it is missing from the store" in told
    check_refused(predicting, model)


@pytest.mark.fault("F15", "F16")
@pytest.mark.parametrize("model", MODELS)
def test_a_version_under_whose_keys_older_bytes_lie_is_told_and_refused(
    predicting, put_back, model
):
    put_back("whole")
    store, versions = store_of(predicting), predicting.models.versions
    old, new = (versions.get(predicting.call(), model, number).artifacts for number in (1, 2))
    for right, wrong in zip(old, new, strict=True):
        shutil.copyfile(store / right.key, store / wrong.key)
    (told,) = bad(predicting.settings)
    assert told.startswith(f"models/{model}/versions/2: corrupt: The stored artifact is corrupt")
    check_refused(predicting, model)


@pytest.mark.fault("F16")
def test_what_an_older_database_does_not_know_is_told_and_not_served(predicting):
    older = predicting.settings.home / "older"
    shutil.copytree(store_of(predicting), older / "models_store", dirs_exist_ok=True)
    for path in (older / "models_store").rglob("*.*"):
        os.utime(path, (0, 0))
    settings = predicting.settings.with_(home=older)
    newer = [predicting.models.versions.get(predicting.call(), name, 2) for name in MODELS]
    keys = {artifact.key for version in newer for artifact in version.artifacts}
    told = bad(settings)
    assert all(": orphan: " in text for text in told)
    assert keys <= {text.partition(":")[0] for text in told}
    (older / "instance" / "sockets").write_text(str(predicting.sockets))
    with started_anew(settings, predicting.admin_key) as predict:
        assert predict("fast", 2).status_code == 404
        assert predict("fast", 1).status_code == 200


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    made = Installation(tmp_path_factory.mktemp("datasets"))
    made.client().post("/api/v1/datasets", json={"name": "penguins"})
    assert upload(made.client(), TABLE, dataset="penguins").status_code == 201
    yield made
    made.close()


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


HARMS = [flip, truncate, empty, remove]


@pytest.mark.fault("F15", "F16")
@pytest.mark.parametrize("harm", HARMS)
def test_a_dataset_whose_bytes_are_wrong_is_told_and_refused(installation, harm):
    """The doctor looked only for bytes without a version, and Parquet was sent unchecked."""
    made = installation
    path = "/api/v1/datasets/penguins/versions/1/content"
    (key,) = made.stored_keys()
    file = store_of(made) / key
    sound = file.read_bytes()
    assert bad(made.settings) == []
    assert made.client().get(path, headers=PARQUET).data == sound
    harm(file)
    try:
        (told,) = bad(made.settings)
        assert told.startswith("datasets/penguins/versions/1: corrupt: ")
        for accepted in (PARQUET, {"Accept": "text/csv"}):
            refused = made.client().get(path, headers=accepted)
            assert (refused.status_code, refused.json["type"]) == (503, "/problems/corrupt")
    finally:
        file.write_bytes(sound)
    assert made.client().get(path, headers=PARQUET).data == sound
