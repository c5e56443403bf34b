"""Flights from January to June, through the REST API: both layers together are better than either.

Rows come when planes are to leave, labels when they have landed; a batch is made every three weeks.
``-o junit_family=xunit1 --junitxml FILE`` tells the figures.
"""

import json
from datetime import timedelta

import pytest

from tests.streams.flights import moments
from tests.streams.model_viewing import ModelViewing, record_of

pytestmark = [pytest.mark.slow, pytest.mark.long]
EVERY = 2
BATCHES = timedelta(days=21)


def _produce(viewing, some):
    client = viewing.client()
    for start in range(0, len(some), 1000):
        records = [record_of(moment) for moment in some[start : start + 1000]]
        told = [{"key": one.key.decode(), "value": json.loads(one.value)} for one in records]
        answer = client.post("/api/v1/topics/flights/records", json={"records": told})
        assert answer.status_code == 201, answer.text


@pytest.mark.timeout(1800)
def test_flights_are_foretold_better_by_both_layers_than_by_either(
    tmp_path, sandbox, record_property
):
    viewing = ModelViewing(tmp_path / "home")
    estimator = {"name": "HistGradientBoostingClassifier", "params": {}}
    viewing.make_view(estimator=estimator)
    stream, at = moments(EVERY), 0
    following = stream[0].time + timedelta(days=31)
    with viewing.working(sandbox):
        while at < len(stream):
            end = at
            while end < len(stream) and stream[end].time < following:
                end += 1
            _produce(viewing, stream[at:end])
            viewing.fold()
            at, following = end, following + BATCHES
            if at < len(stream):
                batch = viewing.batch(seconds=400)
                assert batch["outcome"] == "serving", batch
    told = viewing.told("/metrics")["in_all"]
    viewing.close()
    losses = {layer: told[layer]["log_loss"] for layer in told}
    for layer, loss in losses.items():
        record_property(f"log_loss_{layer}", round(loss, 4))
    assert told["merged"]["count"] > 60_000
    assert losses["merged"] <= losses["batch"] - 0.02
    assert losses["merged"] <= min(losses["batch"], losses["speed"]) + 0.002
