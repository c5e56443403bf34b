"""Finding the rows of a caller's project. Whoever locks two, locks the dataset first."""

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.datasets.tables import Dataset, Version
from app.kernel.artifacts.stored import Stored
from app.kernel.auth import Call
from app.kernel.changes import Change
from app.kernel.errors import Conflict
from app.kernel.rows import the_row
from app.kernel.sql import lease_holds

REMOVAL_LEASE = timedelta(seconds=60)
QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "running", "succeeded", "failed"


@dataclass(frozen=True)
class NewDataset:
    """What a client says of a dataset that is to be made."""

    name: str
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def find_dataset(session: Session, call: Call, name: str, *, lock: bool = False) -> Dataset:
    """A dataset of the caller's project; raises NotFound."""
    query = select(Dataset).where(Dataset.project == call.project, Dataset.name == name)
    return the_row(session, query, f"There is no dataset {name}", lock=lock)


def find_version(
    session: Session, call: Call, name: str, number: int, *, lock: bool = False
) -> Version:
    """A version of a dataset of the caller's project; raises NotFound."""
    query: Select[Version] = select(Version).where(
        Version.project == call.project, Version.dataset == name, Version.number == number
    )
    return the_row(session, query, f"There is no version {number} of a dataset {name}", lock=lock)


def insert_dataset(change: Change, new: NewDataset) -> Dataset:
    """Make a dataset without versions; raises Conflict when the name is taken."""
    refuse_taken(change.session, change.call, new.name)
    row = Dataset(
        project=change.call.project, name=new.name, description=new.description, tags=new.tags
    )
    change.session.add(row)
    change.session.flush()
    change.record("dataset.created", row.subject, {"dataset": row.name})
    return row


def refuse_taken(session: Session, call: Call, name: str) -> None:
    """Raise Conflict when the project has a dataset of that name."""
    query = select(Dataset.id).where(Dataset.project == call.project, Dataset.name == name)
    if session.scalar(query) is not None:
        raise Conflict(f"There is a dataset {name} already")


def is_being_removed(row: Dataset | Version) -> bool:
    """Whether somebody is deleting it right now; a mark that is too old was left by a crash."""
    return lease_holds(row.removal_until, REMOVAL_LEASE)


def refuse_removal(row: Dataset | Version) -> None:
    """Raise Conflict while somebody is deleting it."""
    if is_being_removed(row):
        raise Conflict(f"{row.subject} is being deleted", retry_after=5)


def stored_table(version: Version) -> Stored:
    """Where the Parquet file of a version lies; raises Conflict while there is none."""
    if version.storage_key is None or version.storage_digest is None or version.bytes is None:
        raise Conflict(f"{version.subject} is {version.state}: it has no content")
    return Stored(version.storage_key, version.storage_digest, version.bytes)


def stored_rejects(version: Version) -> Stored | None:
    """Where the rows that were left out lie; None where there are none."""
    if version.rejects_key is None or version.rejects_digest is None:
        return None
    return Stored(version.rejects_key, version.rejects_digest, version.rejects_bytes or 0)
