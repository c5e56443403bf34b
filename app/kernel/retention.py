"""What has had its time is dropped in batches: between them others get at the database."""

import time

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from app.kernel.sql import Database

BATCH, PAUSE_SECONDS = 2000, 0.02


def drop(
    database: Database,
    table: type[DeclarativeBase],
    identity: InstrumentedAttribute[str],
    *which: ColumnElement[bool],
) -> int:
    """Drop the rows of a table for which all conditions hold; the count of them."""
    dropped = 0
    while True:
        with database.write() as session:
            count = drop_some(session, table, identity, *which)
        dropped += count
        if count < BATCH:
            return dropped
        time.sleep(PAUSE_SECONDS)


def drop_some(
    session: Session,
    table: type[DeclarativeBase],
    identity: InstrumentedAttribute[str],
    *which: ColumnElement[bool],
) -> int:
    """Drop one batch in the caller's transaction; the count: where it is less, none are left."""
    some = select(identity).where(*which).limit(BATCH)
    gone = session.scalars(delete(table).where(identity.in_(some)).returning(identity))
    return len(gone.all())
