"""Datasets: what can be done with them, and the parts that do it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from app.datasets.archives import Archives
from app.datasets.backlog import Backlog
from app.datasets.conversion import Conversions, Filled
from app.datasets.leftovers import Leftovers
from app.datasets.lookup import NewDataset, find_dataset, insert_dataset
from app.datasets.ports import Ingest, Referrer
from app.datasets.removal import Removal
from app.datasets.tables import Dataset
from app.datasets.uploads import Intake
from app.datasets.versions import Versions
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.http.pagination import Listing, Page
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.signing import KeyRing
from app.kernel.slots import Slots
from app.kernel.sql import Database

DATASETS = Listing(
    "Datasets",
    {
        "name": Dataset.name,
        "created_at": Dataset.created_at,
        "updated_at": Dataset.updated_at,
    },
    order=("created_at", "updated_at", "name"),
    identity=Dataset.id,
)


class DatasetsService:
    """Datasets as names; ``versions``, ``conversions``, ``backlog``, ``removal`` and ``leftovers``
    do the rest. ``intake`` is where uploads come in, ``downloads`` bounds what goes out.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        store: ArtifactStore,
        *,
        ingest: Ingest,
        jobs: BoundedQueue,
        referrers: Sequence[Referrer],
        intake: Intake,
        downloads: Slots,
    ) -> None:
        self._changes = Changes(database, "datasets")
        self._database = database
        self._ring = ring
        self.intake = intake
        self.downloads = downloads
        self.versions = Versions(database, ring, store, ingest)
        self.conversions = Conversions(database, store, ingest)
        self.archives = Archives(database, self.conversions)
        self.backlog = Backlog(
            database,
            store,
            self.conversions,
            jobs,
            work=intake.work,
        )
        self.removal = Removal(database, store, referrers)
        self.leftovers = Leftovers(database, store, intake.work)

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[Dataset]:
        """The datasets of the caller's project."""
        query = select(Dataset).where(Dataset.project == call.project)
        with self._database.read() as session:
            return DATASETS.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, name: str) -> Dataset:
        """A dataset; raises NotFound."""
        with self._database.read() as session:
            return find_dataset(session, call, name)

    def create(self, call: Call, new: NewDataset) -> Filled:
        """A dataset without versions; raises Conflict when the name is taken."""
        with self._changes.begin(call) as change:
            made = Filled(insert_dataset(change, new), None)
            change.answer(made)
        return made

    def update(self, call: Call, name: str, changes: Mapping[str, Any]) -> Dataset:
        """Change what is given of ``description`` and ``tags``; raises NotFound."""
        with self._changes.begin(call) as change:
            row = find_dataset(change.session, call, name, lock=True)
            change.guard(row)
            for field, value in changes.items():
                setattr(row, field, value)
            change.record("dataset.updated", row.subject, {"dataset": name})
        return row
