"""Finished chunks of batches under way, kept so that the next attempt begins after them.

In order: the child writes the outputs of a chunk and says so; the worker puts them into the store
under a key of its attempt, and then records them, if the batch still is that attempt's. The next
attempt fetches what is recorded, up to the first chunk that is missing, unsound or of another
source. Rows and bytes go when the batch has ended.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, exists, select

from app.kernel import faults
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import ArtifactCorrupt, ArtifactMissing
from app.kernel.long_work.lifecycle import ENDED, RUNNING, Superseded
from app.kernel.sql import Database
from app.predictions.tables import BatchPart, BatchPrediction

FOLDER = "batches"
PART_FILE = "part-%06d.parquet"
"""The file of a chunk's outputs in a work folder."""


def source_of(**made_of: object) -> str:
    """A digest of all that a chunk's outputs follow from: parts of two sources never mix."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


class BatchParts:
    """The parts of the batches of one database."""

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self._database = database
        self._store = store

    def take(self, batch: BatchPrediction, source: str, folder: Path) -> int:
        """Fetch what earlier attempts have finished; how many chunks, from the first on."""
        query = select(BatchPart).where(BatchPart.batch_id == batch.id).order_by(BatchPart.number)
        with self._database.read() as session:
            recorded = session.scalars(query).all()
        for number, part in enumerate(recorded):
            if part.number != number or part.source != source:
                return number
            try:
                place = folder / (PART_FILE % number)
                self._store.fetch(part.key, part.digest, place, size=part.bytes)
            except (ArtifactMissing, ArtifactCorrupt):
                return number
        return len(recorded)

    def keep(self, batch: BatchPrediction, source: str, number: int, folder: Path) -> None:
        """Store and record a chunk of this attempt; raises Superseded where it is another's."""
        key = f"{batch.project}/{FOLDER}/{batch.id}-{batch.attempt}.{number:06d}.part"
        stored = self._store.put(key, folder / (PART_FILE % number))
        faults.hit("batches.part_stored")
        with self._database.write() as session:
            row = session.get(BatchPrediction, batch.id, with_for_update=True)
            if row is None or (row.attempt, row.stored_state) != (batch.attempt, RUNNING):
                raise Superseded(batch.id)
            told: Mapping[str, Any] = {**vars(stored), "batch_id": batch.id, "number": number}
            session.merge(BatchPart(source=source, **told))
        faults.hit("batches.part_recorded")

    def of_ended(self) -> Iterator[BatchPart]:
        """The parts that nobody needs any more: their batch has ended, or is gone."""
        needed = exists().where(
            BatchPrediction.id == BatchPart.batch_id, BatchPrediction.stored_state.not_in(ENDED)
        )
        with self._database.read() as session:
            yield from session.scalars(select(BatchPart).where(~needed)).all()

    def are_recorded(self, keys: list[str]) -> set[str]:
        """Which of some keys are of recorded parts."""
        with self._database.read() as session:
            return set(session.scalars(select(BatchPart.key).where(BatchPart.key.in_(keys))))

    def clear(self, batch_id: str) -> None:
        """Remove the parts of a batch that has ended, bytes first; nothing while it lives."""
        with self._database.read() as session:
            batch = session.get(BatchPrediction, batch_id)
            if batch is not None and not batch.ended:
                return
            query = select(BatchPart.key).where(BatchPart.batch_id == batch_id)
            keys = session.scalars(query).all()
        for key in keys:
            self._store.delete(key)
        if keys:
            with self._database.write() as session:
                session.execute(delete(BatchPart).where(BatchPart.batch_id == batch_id))
