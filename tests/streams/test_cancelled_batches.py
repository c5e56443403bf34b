"""Batches of model views that are cancelled, at each moment that matters."""

import time

import pytest

from app.kernel.jobs.claims import Claims
from app.kernel.jobs.execution import Execution
from app.roles import job_kinds
from app.streams.views.batches import JOB
from tests.problems import assert_problem
from tests.streams.flights import moments
from tests.streams.model_viewing import VIEWS, ModelViewing

STREAM = moments(60)
BATCHES = f"{VIEWS}/late/batches"


@pytest.fixture
def viewing(tmp_path):
    """A view with records, and no worker."""
    made = ModelViewing(tmp_path / "home", partitions=1)
    made.make_view()
    made.produce(STREAM[:400])
    yield made
    made.close()


def work(viewing, sandbox):
    """Do what is to be done for the batch now, as a worker does."""
    claims = Claims("streams", viewing.wiring.jobs("streams"), [JOB], 60.0)
    until = time.monotonic() + 60
    while (job := claims.claim(JOB)) is None:
        assert time.monotonic() < until, "its job is never due"
        time.sleep(0.05)
    handled = job_kinds(viewing.wiring, sandbox)[JOB]
    Execution({JOB: handled.handle}, handled.on_failure).run(claims, job)


def runs(viewing):
    return [one["state"] for one in viewing.client().get("/api/v1/training-runs").json["items"]]


def test_a_batch_that_waits_for_its_training_run_takes_it_with_it(viewing, sandbox):
    client = viewing.client()
    assert client.post(BATCHES).status_code == 202
    work(viewing, sandbox)
    assert (viewing.told("/batches/1")["state"], runs(viewing)) == ("running", ["queued"])
    cancelled = client.post(f"{BATCHES}/1/cancel")
    assert (cancelled.status_code, cancelled.json["state"]) == (202, "cancelling")
    assert runs(viewing) == ["cancelled"]
    work(viewing, sandbox)
    assert viewing.told("/batches/1")["state"] == "cancelled"
    assert_problem(client.post(f"{BATCHES}/1/cancel"), 409)
    assert client.post(BATCHES).json["version"] == 2


def test_one_that_is_cancelled_while_it_asks_for_its_run_cancels_that_too(
    viewing, sandbox, monkeypatch
):
    client, training = viewing.client(), viewing.wiring.lambda_views.batches._training
    asked = training.train

    def cancelled_meanwhile(call, wanted):
        run = asked(call, wanted)
        assert client.post(f"{BATCHES}/1/cancel").json["state"] == "cancelling"
        assert runs(viewing) == ["queued"]
        return run

    monkeypatch.setattr(training, "train", cancelled_meanwhile)
    client.post(BATCHES)
    work(viewing, sandbox)
    assert viewing.told("/batches/1")["state"] == "cancelled"
    assert runs(viewing) == ["cancelled"]


def test_while_a_batch_is_under_way_each_version_of_its_model_is_kept(viewing, sandbox):
    """One that its run has just registered could be deleted before the batch knew its number."""
    client = viewing.client()
    client.post(BATCHES)
    references = viewing.wiring.stream_references
    [one] = references.of_model(viewing.call(), "late-flights", 7, is_default=False)
    assert one["subject"] == "lambda-views/late"
    client.post(f"{BATCHES}/1/cancel")
    assert not references.of_model(viewing.call(), "late-flights", 7, is_default=False)
    assert references.of_model(viewing.call(), "late-flights", None, is_default=False)
