"""Parts of batches under way: kept by the attempt that holds it, taken by the next, swept."""

import pytest
from sqlalchemy import select

from app.kernel.errors import Unavailable
from app.kernel.long_work.lifecycle import Superseded
from app.predictions.parts import PART_FILE, source_of
from app.predictions.tables import BatchPart, BatchPrediction
from tests.predictions.batches import batch_row

SOURCE = source_of(model="sha-256:0", rows=2)


class Batch:
    """A running batch in a yard, and a folder in which its child works."""

    def __init__(self, yard, folder):
        self.yard, self.folder = yard, folder
        self.parts = yard.wiring.batches.contents.parts
        self.database = yard.wiring.database("predictions")
        self.row = batch_row(stored_state="running")
        with self.database.write() as session:
            session.add(self.row)

    def keep(self, number, source=SOURCE):
        """Keep a chunk under the attempt of ``row``."""
        content = f"chunk {number} of attempt {self.row.attempt}"
        (self.folder / (PART_FILE % number)).write_text(content)
        self.parts.keep(self.row, source, number, self.folder)

    def take(self, folder, source=SOURCE):
        """What a next attempt finds: texts, in order."""
        folder.mkdir()
        found = range(self.parts.take(self.row, source, folder))
        return [(folder / (PART_FILE % number)).read_text() for number in found]

    def change(self, **values):
        """Move the batch on, as another worker or a client would."""
        with self.database.write() as session:
            row = session.get(BatchPrediction, self.row.id)
            for name, value in values.items():
                setattr(row, name, value)

    def recorded(self):
        """The keys of its parts."""
        with self.database.read() as session:
            query = select(BatchPart.key).where(BatchPart.batch_id == self.row.id)
            return list(session.scalars(query.order_by(BatchPart.number)))

    def stored(self):
        """What lies in the store."""
        return sorted(item.key for item in self.yard.wiring.store.list())


@pytest.fixture
def batch(yard, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return Batch(yard, folder)


def test_the_next_attempt_finds_what_was_kept(batch, tmp_path):
    batch.keep(0)
    batch.keep(1)
    assert batch.take(tmp_path / "next") == ["chunk 0 of attempt 1", "chunk 1 of attempt 1"]


def test_parts_of_another_model_or_chunk_size_are_not_taken_but_replaced(batch, tmp_path):
    batch.keep(0)
    batch.keep(1)
    other = source_of(model="sha-256:1", rows=2)
    assert batch.take(tmp_path / "other", other) == []
    batch.row.attempt = 2
    batch.change(attempt=2)
    batch.keep(0, other)
    assert batch.take(tmp_path / "next", other) == ["chunk 0 of attempt 2"]


@pytest.mark.parametrize("fault", ["gone", "flipped"])
def test_a_part_whose_bytes_are_wrong_is_computed_again(batch, tmp_path, fault):
    for number in range(3):
        batch.keep(number)
    file = batch.yard.settings.home / "models_store" / batch.recorded()[1]
    if fault == "gone":
        file.unlink()
    else:
        file.write_text("chunk X of attempt 1")
    assert batch.take(tmp_path / "next") == ["chunk 0 of attempt 1"]


@pytest.mark.fault("F6")
@pytest.mark.parametrize("moved", [{"attempt": 2}, {"stored_state": "cancelled"}])
def test_a_late_worker_records_nothing(batch, tmp_path, moved):
    batch.keep(0)
    batch.change(**moved)
    with pytest.raises(Superseded):
        batch.keep(1)
    assert len(batch.recorded()) == 1
    assert batch.take(tmp_path / "next") == ["chunk 0 of attempt 1"]


def test_a_living_batch_keeps_its_parts_and_an_ended_one_none(batch):
    batch.keep(0)
    batch.parts.clear(batch.row.id)
    assert batch.stored() == batch.recorded()
    batch.change(stored_state="failed")
    batch.parts.clear(batch.row.id)
    assert (batch.stored(), batch.recorded()) == ([], [])


def test_the_chore_sweeps_parts_that_nobody_cleared(batch):
    batch.keep(0)
    contents = batch.yard.wiring.batches.contents
    assert contents.run() == []
    batch.change(stored_state="succeeded", contents={})
    [told] = contents.plan()
    assert (told.code, told.subject, len(batch.stored())) == ("orphan", batch.recorded()[0], 1)
    contents.run()
    assert (batch.stored(), batch.recorded()) == ([], [])


def test_a_cancel_of_a_batch_that_waits_for_its_next_attempt_sweeps_its_parts(batch):
    batch.keep(0)
    batch.change(stored_state="queued")
    path = f"/api/v1/batch-predictions/{batch.row.id}"
    assert batch.yard.client().post(f"{path}/cancel").json["state"] == "cancelled"
    assert (batch.stored(), batch.recorded()) == ([], [])


def test_a_delete_leaves_no_row_of_a_part(batch, monkeypatch):
    batch.keep(0)
    monkeypatch.setattr(type(batch.yard.wiring.store), "delete", _away)
    batch.change(stored_state="queued")
    path = f"/api/v1/batch-predictions/{batch.row.id}"
    assert batch.yard.client().post(f"{path}/cancel").status_code == 202
    assert len(batch.recorded()) == 1
    assert batch.yard.client().delete(path).status_code == 204
    assert batch.recorded() == []


def _away(_store, _key):
    raise Unavailable("The artifact store does not answer")
