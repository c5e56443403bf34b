"""How the rows of this service are found, and what must hold of them before they change.

Whoever changes a model or anything below it locks the model's row first: so versions are numbered
without gaps, an alias points at what is there, and nobody waits for another in a circle.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.changes import Change
from app.kernel.errors import Conflict
from app.kernel.rows import the_row
from app.kernel.sql import lease_holds, utc_now
from app.models.tables import READY, Model, Version

REMOVAL_LEASE = timedelta(seconds=60)


def find_model(session: Session, call: Call, name: str, *, lock: bool = False) -> Model:
    """A model of the caller's project; raises NotFound."""
    query = select(Model).where(Model.project == call.project, Model.name == name)
    return the_row(session, query, f"There is no model {name}", lock=lock)


def find_version(
    session: Session, call: Call, model: str, number: int, *, lock: bool = False
) -> Version:
    """A version of a model of the caller's project; raises NotFound."""
    query = select(Version).where(
        Version.project == call.project, Version.model == model, Version.number == number
    )
    return the_row(session, query, f"There is no version {number} of the model {model}", lock=lock)


def lock_version(session: Session, call: Call, model: str, number: int) -> tuple[Model, Version]:
    """A version and its model, locked in the one order; raises NotFound."""
    parent = find_model(session, call, model, lock=True)
    return parent, find_version(session, call, model, number, lock=True)


def is_being_removed(row: Model | Version) -> bool:
    """Whether somebody is deleting it right now; a mark that is too old was left by a crash."""
    return lease_holds(row.removal_until, REMOVAL_LEASE)


def refuse_removal(*rows: Model | Version) -> None:
    """Raise Conflict while somebody is deleting one of them."""
    for row in rows:
        if is_being_removed(row):
            raise Conflict(f"{row.subject} is being deleted", retry_after=1)


def refresh_newest(session: Session, model: Model) -> None:
    """Bring the model's newest ready version, and so its ETag, up to date; flush before."""
    session.flush()
    model.newest_version = session.scalar(
        select(func.max(Version.number)).where(Version.model_id == model.id, Version.state == READY)
    )
    touch(model)


def touch(model: Model) -> None:
    """Give the model a new ETag: what it shows of its versions or aliases has changed."""
    model.updated_at = utc_now()


def insert_model(change: Change, name: str, **fields: Any) -> Model:
    """A model without versions; raises IntegrityError when the name is taken meanwhile."""
    row = Model(project=change.call.project, name=name, **fields)
    change.session.add(row)
    change.session.flush()
    return row
