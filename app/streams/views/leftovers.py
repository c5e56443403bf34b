"""What deletions and dead workers leave of views, and what of the store a view names."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sqlalchemy import select

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import Stored
from app.kernel.long_work.lifecycle import ENDED
from app.kernel.sql import Database, utc_now
from app.streams.views.contents import FOLDER
from app.streams.views.swap import Swaps
from app.streams.views.tables import LambdaView, SpeedRow, ViewBatch

_YOUNG: Final = timedelta(hours=1)


class ViewLeftovers:
    """Clears away what nothing names any more."""

    def __init__(self, database: Database, store: ArtifactStore, swaps: Swaps) -> None:
        self._database = database
        self._store = store
        self._swaps = swaps

    def sweep(self) -> int:
        """Rows of batches that are not in place, and bytes of no batch; how many bytes' keys."""
        with self._database.read() as session:
            views = {*session.scalars(select(LambdaView.id))}
            views |= {*session.scalars(select(SpeedRow.view_id).distinct())}
        for view_id in views:
            self._swaps.tidy(view_id)
        before = utc_now() - _YOUNG
        old = [
            item.key
            for item in self._store.list()
            if item.key.split("/")[1:2] == [FOLDER] and item.modified_at <= before
        ]
        with self._database.read() as session:
            batches = list(session.scalars(select(ViewBatch)))
        named = {batch.contents["key"] for batch in batches if batch.contents}
        under_way = {batch.id for batch in batches if batch.stored_state not in ENDED}
        orphans = [key for key in old if key not in named and _owner_of(key) not in under_way]
        for key in orphans:
            self._store.delete(key)
        return len(orphans)


def stored_in(database: Database) -> Iterator[Stored]:
    """What the views of a database are served from, in the store."""
    with database.read() as session:
        for contents in session.scalars(select(LambdaView.serving_contents)):
            if contents is not None:
                yield Stored(**contents)


def _owner_of(key: str) -> str:
    """The batch that a key was made for."""
    return key.rpartition("/")[2].rpartition("-")[0]
