"""Predictions and batches are kept as long as their model's retention says, and no longer."""

from datetime import timedelta

import pytest

from app.housekeeping import chores, do_chores
from app.kernel import retention
from app.kernel.errors import Unavailable
from app.kernel.jobs.queue import Clock
from app.kernel.long_work.lifecycle import SUCCEEDED
from app.kernel.sql import utc_now
from app.predictions import service
from app.predictions.contents import key_of
from app.predictions.directory import Reference
from app.wiring import Wiring
from tests.predictions.batches import batch_row
from tests.predictions.predicting import ROW, Predicting

MODEL = "/api/v1/models/fast"
PATH = "/api/v1/predictions"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def yard(request, tmp_path_factory):
    """One for all tests: each begins without predictions."""
    url = request.getfixturevalue("postgres_url")() if request.param == "postgresql" else ""
    made = Predicting(tmp_path_factory.mktemp("retention"), url)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def emptied(yard):
    yard.client().delete(f"{PATH}?created_at__lt=2100-01-01T00:00:00Z")
    keep(yard, None)


def keep(yard, retention):
    assert yard.client().patch(MODEL, json={"retention": retention}).status_code == 200


def store(yard, count=1):
    """Stored predictions; their ids."""
    body = {"model": "fast", "inputs": [ROW]}
    return [yard.client().post(PATH, json=body).json["id"] for _ in range(count)]


def kept(yard):
    return {item["id"] for item in yard.client().get(PATH).json["items"]}


def sweep(yard, days=0.0, wiring=None):
    clock = Clock(now=lambda: utc_now() + timedelta(days=days))
    known = chores(wiring or yard.wiring, clock)
    do_chores({name: known[name] for name in ("predictions", "batches")})


def test_predictions_go_when_they_are_too_old(yard):
    stored = store(yard, 2)
    keep(yard, {"max_age_days": 30})
    sweep(yard, days=29)
    assert kept(yard) == set(stored)
    sweep(yard, days=31)
    assert kept(yard) == set()


@pytest.mark.parametrize("batch", [2, 1000])
def test_the_newest_stay_and_what_goes_is_told(yard, monkeypatch, batch):
    for module in (retention, service):
        monkeypatch.setattr(module, "BATCH", batch)
    stored = store(yard, 6)
    keep(yard, {"max_rows": 2})
    after = yard.client().get("/api/v1/events?after=latest").json["next_position"]
    sweep(yard)
    assert kept(yard) == set(stored[-2:])
    events = yard.client().get(f"/api/v1/events?after={after}").json["items"]
    assert {event["type"] for event in events} == {"modelyard.predictions.deleted"}
    assert sum(event["data"]["count"] for event in events) == 4


def test_what_counts_is_the_models_retention_of_now(yard):
    """A worker went by what its database remembered of the model, which nobody had told of the
    change since the API's restart: predictions were deleted that were to be kept.
    """
    stored = store(yard, 3)
    keep(yard, {"max_rows": 1})
    yard.wiring.directory._learn(yard.call(), "fast")
    keep(yard, None)
    anew = Wiring(yard.settings)
    anew.app = lambda: yard.app
    sweep(yard, wiring=anew)
    anew.close()
    assert kept(yard) == set(stored)


def test_while_the_models_service_is_away_nothing_is_deleted(yard, monkeypatch):
    def away(*_):
        raise Unavailable("away")

    stored = store(yard, 3)
    keep(yard, {"max_rows": 1})
    yard.wiring.directory.locate(yard.call(), Reference("fast"))
    with monkeypatch.context() as patched:
        patched.setattr(yard.wiring.directory._models, "state", away)
        sweep(yard)
    assert kept(yard) == set(stored)
    sweep(yard)
    assert kept(yard) == {stored[-1]}


def add_batch(yard, **columns):
    """A batch with a result in the store, as a worker leaves it."""
    batch = batch_row(model="fast", **columns)
    stored = yard.wiring.store.put(key_of(batch, ".csv"), b"a,b\n")
    batch.contents = {"csv": {"key": stored.key, "digest": stored.digest, "bytes": stored.bytes}}
    with yard.wiring.database("predictions").write() as session:
        session.add(batch)
    return batch


def test_an_ended_batch_goes_with_its_result_when_it_is_too_old(yard):
    """Results of batches stayed for ever, whatever the model's retention said."""
    now = utc_now()
    ended = add_batch(yard, stored_state=SUCCEEDED, finished_at=now, rows=1, engine="compiled")
    living = add_batch(yard, stored_state="running", created_at=now - timedelta(days=99))
    keep(yard, {"max_age_days": 30, "max_rows": 1})
    sweep(yard, days=29)
    batches = "/api/v1/batch-predictions"
    assert yard.client().get(f"{batches}/{ended.id}/content").text == "a,b\n"
    sweep(yard, days=31)
    assert yard.client().get(f"{batches}/{ended.id}").status_code == 404
    assert yard.client().get(f"{batches}/{living.id}").status_code == 200
    keys = {item.key for item in yard.wiring.store.list("default/batches")}
    assert keys == {living.contents["csv"]["key"]}


def test_a_follower_that_comes_too_late_learns_everything_anew(yard):
    """It read on after events that it had missed, and served an alias that had been moved."""
    directory = yard.wiring.directory
    yard.make("fast", yard.pipelines["fast"].named_steps["model"])
    yard.wiring.follower.follow_once(wait=0)
    directory.locate(yard.call(), Reference("fast"))
    alias = f"{MODEL}/aliases/champion"
    assert yard.client().put(alias, json={"version": 1}).status_code in (200, 201)
    store(yard)
    do_chores(
        {
            "events": chores(yard.wiring, Clock(now=lambda: utc_now() + timedelta(days=31)))[
                "events-0"
            ]
        }
    )
    for _ in range(2):
        yard.wiring.follower.follow_once(wait=0)
    assert directory.locate(yard.call(), Reference("fast"))["version"] == 1
