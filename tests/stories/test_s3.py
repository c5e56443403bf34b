"""A whole server whose store is a bucket: the main job, wrong bytes, deletion, leftovers."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from app.kernel.artifacts.stored import digest_of
from tests.server import NO_PROCESSORS, Server, wait_for

ROOT = Path(__file__).resolve().parents[2]
PENGUINS = ROOT / "examples" / "penguins.csv"
ROW = {"bill_length_mm": 39.1, "flipper_length_mm": 181}
MODEL = "/models/penguins/versions/1"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Bucket:
    """What is really in the bucket, behind the server's back."""

    def __init__(self):
        from moto.s3.models import s3_backends  # noqa: PLC0415 - costs seconds

        partitions = [regions["aws"] for regions in s3_backends.values() if "aws" in regions]
        (self._backend,) = (found for found in partitions if "models" in found.buckets)

    def objects(self):
        """All objects but the store's own, by key."""
        found = self._backend.buckets["models"].keys
        return {key: found[key] for key in found if key.startswith("yard/default/")}

    def put(self, key, content, *, old=False):
        """Write an object, as if years ago."""
        self._backend.put_object("models", key, content)
        if old:
            self.objects()[key].last_modified = datetime(2020, 1, 1)  # noqa: DTZ001 (as moto has it)

    def delete(self, key):
        """Lose an object."""
        self._backend.delete_object("models", key)


@pytest.fixture(scope="module")
def bucket(s3_endpoint):
    return Bucket()


@pytest.fixture(scope="module")
def environment(s3_endpoint):
    return {
        "MODELYARD_STORE_URL": "s3://models/yard",
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory, environment):
    with Server(tmp_path_factory.mktemp("home"), {**NO_PROCESSORS, **environment}) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    """Of a server that has a dataset and a model trained on it, which nobody has used yet."""
    with server.client() as client:
        file = {"file": ("penguins.csv", PENGUINS.read_bytes(), "text/csv")}
        assert client.post("/datasets", data={"name": "penguins"}, files=file).status_code == 201
        wanted = {
            "model": "penguins",
            "dataset": "penguins",
            "target": "species",
            "features": list(ROW),
            "estimator": {"name": "LogisticRegression"},
        }
        run = wait_for(
            client, f"/training-runs/{client.post('/training-runs', json=wanted).json()['id']}"
        )
        assert run["state"] == "succeeded", run
        yield client


def predict(client):
    return client.post("/models/penguins/predict", json={"inputs": [ROW]})


def key_of(bucket, suffix):
    (key,) = (key for key in bucket.objects() if "/models/" in key and key.endswith(suffix))
    return key


def flip(bucket, key, content):
    bucket.put(key, content[:-1] + bytes([content[-1] ^ 1]))


def truncate(bucket, key, content):
    bucket.put(key, content[:-1])


def lose(bucket, key, _content):
    bucket.delete(key)


def exchange(bucket, key, _content):
    bucket.put(key, bucket.objects()[key_of(bucket, ".joblib")].value)


@pytest.mark.fault("F15")
@pytest.mark.parametrize("harm", [flip, truncate, lose, exchange])
def test_wrong_bytes_are_refused_and_the_version_says_so(client, bucket, harm):
    key = key_of(bucket, ".myc")
    content = bucket.objects()[key].value
    harm(bucket, key, content)
    refused = predict(client)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/corrupt")
    assert client.get(MODEL).json()["state"] == "corrupt"

    bucket.put(key, content)
    assert client.post(f"{MODEL}/verify").json()["state"] == "ready"


def test_the_main_job_ends_in_predictions(client):
    answer = predict(client)
    assert answer.status_code == 200, answer.text
    assert answer.json()["engine"] == "compiled"
    assert answer.json()["outputs"][0]["label"] == "Adelie"


def test_a_batch_reads_from_the_bucket_and_writes_to_it(client, bucket):
    wanted = {"model": "penguins/1", "dataset": "penguins"}
    batch = client.post("/batch-predictions", json=wanted).json()
    path = f"/batch-predictions/{batch['id']}"
    assert wait_for(client, path)["state"] == "succeeded"
    content = client.get(f"{path}/content", headers={"Accept": "text/csv"})
    assert len(content.text.splitlines()) == 345
    part = client.get(f"{path}/content", headers={"Accept": "text/csv", "Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content.content[10:20])
    assert sum("/batches/" in key for key in bucket.objects()) == 2
    assert client.delete(path).status_code == 204
    assert not any("/batches/" in key for key in bucket.objects())


def test_an_artifact_is_downloaded_and_wrong_bytes_never_as_a_whole_file(client, bucket):
    path, key = f"{MODEL}/artifacts/joblib", key_of(bucket, ".joblib")
    told = {one["format"]: one for one in client.get(MODEL).json()["artifacts"]}["joblib"]
    content = client.get(path).content
    assert digest_of(content) == told["digest"]
    flip(bucket, key, content)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(path)
    assert client.get(MODEL).json()["state"] == "corrupt"
    bucket.put(key, content)
    assert client.post(f"{MODEL}/verify").json()["state"] == "ready"


def test_what_is_deleted_is_gone_and_the_doctor_clears_what_nobody_has(
    client, server, bucket, environment
):
    kept = {key for key in bucket.objects() if "/models/" not in key}
    assert client.delete("/models/penguins").status_code == 204
    assert set(bucket.objects()) == kept
    for name in ("models/orphan.joblib", "batches/orphan-1.csv", "datasets/orphan"):
        bucket.put(f"yard/default/{name}", b"left behind", old=True)
    bucket.put("yard/default/models/young.joblib", b"about to be registered")

    command = [sys.executable, "-m", "app", "doctor", "--repair", "--home", str(server.home)]
    told = {**os.environ, **environment}
    done = subprocess.run(command, env=told, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(bucket.objects()) == {*kept, "yard/default/models/young.joblib"}
    assert client.delete("/datasets/penguins").status_code == 204
    assert set(bucket.objects()) == {"yard/default/models/young.joblib"}
