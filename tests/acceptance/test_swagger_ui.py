"""The page at /docs in a real browser without a network: the main job by clicks alone."""

import json

import httpx
import pytest

from tests.acceptance.browser import SwaggerPage, chromium
from tests.acceptance.main_job import PENGUINS
from tests.server import NO_PROCESSORS, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def driver():
    found = chromium()
    yield found
    found.quit()


@pytest.fixture(scope="module")
def server(driver, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), NO_PROCESSORS) as running:
        yield running


@pytest.fixture
def page(driver, server):
    return SwaggerPage(driver, server.url)


def test_the_page_asks_nothing_of_any_other_host(page, server):
    policy = httpx.get(f"{server.url}/docs").headers["Content-Security-Policy"]

    assert page.tags()[:4] == ["datasets", "training", "models", "predictions"]
    assert page.requested_hosts() == {f"127.0.0.1:{server.port}"}
    assert page.complaints() == []
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    assert "*" not in policy


def test_without_a_key_the_refusal_is_shown(page):
    status, body = page.operation("datasets", "listDatasets").execute()

    assert status == "401"
    assert json.loads(body)["type"] == "/problems/unauthenticated"


def test_the_main_job_is_done_by_clicks(page, server, tmp_path):
    page.authorize(server.admin_key)

    upload = page.operation("datasets", "createDataset")
    upload.attach(PENGUINS)
    status, made = upload.execute()
    assert (status, json.loads(made)["version"]["rows"]) == ("201", 344)

    train = page.operation("training", "createTrainingRun")
    train.write('{"model": "penguins", "dataset": "penguins", "target": "species"}')
    status, accepted = train.execute()
    assert status == "202"

    run = page.operation("training", "getTrainingRun")
    run.fill("run", json.loads(accepted)["id"])
    run.fill("wait", "20")
    told = finished(run)
    assert (told["state"], told["model_version"]) == ("succeeded", 1)

    # With the example as it stands.
    predict = page.operation("predictions", "predict")
    predict.fill("model", "penguins")
    status, answered = predict.execute()
    assert (status, json.loads(answered)["outputs"][0]["label"]) == ("200", "Gentoo")

    status, kept = page.operation("predictions", "createPrediction").execute()
    assert status == "201"
    read = page.operation("predictions", "getPrediction")
    read.fill("prediction", json.loads(kept)["id"])
    status, again = read.execute()
    assert (status, json.loads(again)) == ("200", json.loads(kept))
    assert page.requested_hosts() == {f"127.0.0.1:{server.port}"}
    page.photograph(tmp_path / "done.png")


def finished(run):
    """A run once it has ended: the form is sent again and again."""
    for _ in range(10):
        status, told = run.execute()
        assert status == "200"
        if json.loads(told)["state"] not in ("queued", "running"):
            break
    return json.loads(told)
