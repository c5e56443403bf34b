"""A bucket that fails, hangs or shows late: all or nothing, told, and healed by itself."""

import time

import pytest

from app.kernel.artifacts.bucket import PART, BucketStore
from app.kernel.artifacts.store import digest_of
from app.kernel.errors import Unavailable
from tests.faults.flaky_s3 import flaky_s3, nth, the_first
from tests.faults.rounds import rounds
from tests.server import NO_PROCESSORS, Server, wait_for

pytestmark = pytest.mark.fault("F29")
SMALL, LARGE = b"small" * 100, b"a large one " * (PART // 10)
ROW = {"mass": 3100.0}
TABLE = "mass,species\n" + "".join(
    f"{3000 + 9 * i},{'heavy' if i > 99 else 'light'}\n" for i in range(200)
)
AWAY = (503, "/problems/unavailable")


@pytest.fixture(scope="module")
def s3(s3_endpoint):
    with flaky_s3(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def environment(s3):
    return {
        "MODELYARD_STORE_URL": "s3://models/flaky",
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        **NO_PROCESSORS,
    }


@pytest.fixture
def store(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return BucketStore("models", "store", retry_seconds=5)


@pytest.mark.parametrize(
    "content",
    [pytest.param(SMALL, id="small"), pytest.param(LARGE, id="large", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("fault", ["500", "503", "drop", "forget"][: rounds(quick=1, full=4)])
def test_whichever_request_fails_a_thing_is_whole_or_not_there(store, s3, fault, content):
    for number in range(1, 50):
        key = f"{fault}-{len(content)}/{number}"
        s3.break_(nth(number, fault))
        try:
            stored = store.put(key, content)
        except Unavailable:
            stored = None
        count = s3.count
        s3.heal()
        found = {thing.key: thing.bytes for thing in store.list(f"{fault}-{len(content)}")}
        if stored is not None or key in found:
            assert found[key] == len(content)
            assert store.open(key, digest_of(content)) == content
        # Whatever became of it: to try again is harmless, and ends well.
        assert store.put(key, content).digest == digest_of(content)
        if count < number:
            break
    assert number > 2


def test_what_the_bucket_shows_late_is_waited_for(store, s3):
    """A 404 right after the write made a run fail with a missing artifact."""
    s3.break_(the_first(2, "GET", "404"))
    assert store.put("late/small", SMALL).bytes == len(SMALL)
    s3.break_(the_first(1, "HEAD", "404"))
    assert store.put("late/large", LARGE).bytes == len(LARGE)
    s3.heal()
    assert {thing.key for thing in store.list("late")} == {"late/small", "late/large"}


def test_what_the_bucket_never_shows_is_not_believed(store, s3):
    s3.break_(lambda _, command: "404" if command in ("GET", "HEAD") else "")
    with pytest.raises(Unavailable):
        store.put("never", SMALL)
    s3.heal()


def test_whether_the_bucket_is_there_is_known_soon_also_when_it_hangs(store, s3):
    """It took as long as an upload may: half a minute and more, for a probe that has seconds."""
    s3.break_(lambda *_: "hang")
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        store.check()
    assert time.monotonic() - begun < 25
    s3.heal()
    store.check()


@pytest.fixture(scope="module")
def server(tmp_path_factory, environment):
    with Server(tmp_path_factory.mktemp("flaky") / "home", environment) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    """Of a server that has a dataset, and a model that has been used."""
    with server.client() as client:
        assert upload(client, "table").status_code == 201
        assert wait_for(client, submit(client, "used"))["state"] == "succeeded"
        assert predict(client, "used").status_code == 200
        yield client


def upload(client, name):
    file = {"file": (f"{name}.csv", TABLE.encode(), "text/csv")}
    return client.post("/datasets", data={"name": name}, files=file)


def submit(client, model):
    wanted = {"model": model, "dataset": "table", "target": "species"}
    body = {**wanted, "estimator": {"name": "LogisticRegression"}}
    answer = client.post("/training-runs", json=body)
    assert answer.status_code == 202, answer.text
    return f"/training-runs/{answer.json()['id']}"


def predict(client, model):
    return client.post(f"/models/{model}/predict", json={"inputs": [ROW]})


def told(answer):
    return answer.status_code, answer.json()["type"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["drop", "500"])
def test_while_the_bucket_is_away_models_predict_and_everything_heals(server, client, s3, fault):
    s3.break_(lambda *_: fault)
    assert predict(client, "used").status_code == 200
    readiness = client.get(f"{server.url}/readyz")
    assert readiness.status_code == 503
    assert readiness.json()["checks"]["store"].startswith("The artifact store does not answer")
    refused = upload(client, f"late-{fault}")
    assert told(refused) == AWAY
    assert int(refused.headers["Retry-After"]) >= 1
    run = submit(client, f"patient-{fault}")
    assert client.get(run, params={"wait": 3}).json()["state"] in ("queued", "running")
    assert predict(client, "used").status_code == 200
    s3.heal()
    assert wait_for(client, run)["state"] == "succeeded"
    assert predict(client, f"patient-{fault}").status_code == 200
    assert upload(client, f"late-{fault}").status_code == 201
    server.wait_until_ready()
