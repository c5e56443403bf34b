"""A batch whose worker dies begins anew after the last chunk that was finished, and ends the same.

It used to begin with the first row again, however far it had come.
"""

import random
import time
from datetime import timedelta

import duckdb
import pytest

from app.predictions import contents
from app.predictions.ports import HeldDataset
from app.predictions.tables import BatchPart, BatchPrediction
from tests.faults.rounds import rounds
from tests.faults.workers import eventually
from tests.predictions.predicting import Predicting

PATH = "/api/v1/batch-predictions"
ROWS = """
    SELECT i AS number, 3000.0 + (i * 37) % 2000 AS mass,
           ['Biscoe', 'Dream', 'Torgersen'][i % 3 + 1] AS island
    FROM range({rows}) AS numbers(i)
"""
CHUNKS = 5
COLUMNS = [
    {"name": "mass", "type": "number", "missing": 0},
    {"name": "island", "type": "string", "missing": 0},
]


class Batching(Predicting):
    """Models to predict by, and one dataset of five chunks."""

    def __init__(self, home, database_url=""):
        super().__init__(home, database_url)
        self.wiring.batches._datasets = self
        table = home / "many.parquet"
        duckdb.sql(f"COPY ({ROWS.format(rows=CHUNKS * 50_000 - 7)}) TO '{table}' (FORMAT parquet)")
        storage = vars(self.wiring.store.put("default/datasets/many.parquet", table))
        self._held = HeldDataset("many", 1, COLUMNS, storage)

    def hold(self, call, dataset, version, *, holder, seconds):
        return self._held

    def release(self, call, held, *, holder):
        pass

    def submit(self):
        asked = self.client().post(PATH, json={"model": "fast", "dataset": "many"})
        assert asked.status_code == 202, asked.text
        return asked.json["id"]

    def ended(self, batch):
        def look():
            told = self.client().get(f"{PATH}/{batch}?wait=5").json
            return told if told["state"] in ("succeeded", "failed", "cancelled") else None

        return eventually(look)

    def contents(self, batch):
        with self.wiring.database("predictions").read() as session:
            return session.get(BatchPrediction, batch).contents

    def messages(self, batch):
        events = self.client().get(f"{PATH}/{batch}/events").json["items"]
        return [event["data"]["message"] for event in events if event["type"] == "progress"]

    def recorded(self, batch):
        with self.wiring.database("predictions").read() as session:
            found = session.query(BatchPart).filter_by(batch_id=batch).order_by(BatchPart.number)
            return [(part.number, part.key) for part in found]

    def part_keys(self):
        return [item.key for item in self.wiring.store.list() if item.key.endswith(".part")]


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.long])]
)
def batching(request, tmp_path, workers):
    url = request.getfixturevalue("postgres_url")() if request.param == "postgresql" else ""
    made = Batching(tmp_path / "home", url)
    yield made
    workers.end()
    made.close()


@pytest.mark.fault("F3")
def test_a_killed_worker_s_batch_goes_on_after_its_finished_chunks(batching, workers):
    first = workers.start(batching, "batches.part_recorded=kill@3")
    batch = batching.submit()
    eventually(first.has_ended)
    assert [number for number, _ in batching.recorded(batch)] == [0, 1, 2]
    # Two chunks are left, and five of the next batch: with an eighth it would die, too.
    second = workers.start(batching, "batches.part_recorded=kill@8")
    told = batching.ended(batch)
    assert (told["state"], told["attempt"], told["rows"]) == ("succeeded", 2, 249_993)
    assert "resumed after 3 finished chunks" in batching.messages(batch)

    undisturbed = batching.ended(again := batching.submit())
    assert (undisturbed["state"], undisturbed["attempt"]) == ("succeeded", 1)
    assert not second.has_ended()
    digests = [
        {name: content["digest"] for name, content in batching.contents(one).items()}
        for one in (batch, again)
    ]
    assert digests[0] == digests[1]
    eventually(lambda: not batching.part_keys())
    assert batching.recorded(batch) == []


@pytest.mark.fault("F4")
@pytest.mark.slow
@pytest.mark.long
def test_a_batch_killed_at_any_moment_ends_the_same(batching, workers, monkeypatch):
    seed = random.Random(5)
    calm = workers.start(batching)
    batching.ended(undisturbed := batching.submit())
    calm.kill()
    for _ in range(rounds(quick=2, full=10)):
        doomed = workers.start(batching, "batches.part_stored=sleep:0.2@*")
        batch = batching.submit()
        eventually(lambda batch=batch: batching.recorded(batch))
        time.sleep(seed.uniform(0, 1.2))
        doomed.kill()
        heir = workers.start(batching)
        assert batching.ended(batch)["state"] == "succeeded"
        assert (
            batching.contents(batch)["parquet"]["digest"]
            == (batching.contents(undisturbed)["parquet"]["digest"])
        )
        eventually(lambda batch=batch: not batching.recorded(batch))
        heir.kill()
    # What was stored, and then not recorded, is swept when nobody can be about to record it.
    monkeypatch.setattr(contents, "YOUNG", timedelta())
    batching.wiring.batches.contents.run()
    assert not batching.part_keys()
