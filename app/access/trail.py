"""What happened, and who did it: read from the databases of the services served here."""

import re
from collections.abc import Sequence
from typing import Any

from app.kernel.audit import read_audit
from app.kernel.auth import Call
from app.kernel.errors import Malformed
from app.kernel.events import EventLog, cloud_event
from app.kernel.http.pagination import Page
from app.kernel.sql import Database

EVERY_PROJECT = "*"
_ROW_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Trail:
    """The events and the audit trail of one process. Apart, each service tells its own."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self._databases = databases
        self._events = EventLog(databases)

    def audit(self, call: Call, before: str | None, limit: int) -> Page[Any]:
        """The audit trail of the caller's project, newest first; Malformed for a foreign token."""
        if before is not None and not _ROW_ID.fullmatch(before):
            raise Malformed("The page_token is not one of ours")
        rows = read_audit(self._databases, project=call.project, before=before, limit=limit + 1)
        return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)

    def events(
        self, call: Call, after: str | None, *, limit: int, wait: float, source: str | None
    ) -> tuple[list[dict[str, Any]], str]:
        """CloudEvents of the caller's project; of all for a peer that asks for them all."""
        everything = call.peer is not None and call.project == EVERY_PROJECT
        project = None if everything else call.project
        if after == "latest":
            return [], self._events.head()
        wait = call.patience(wait)
        sources = None if source is None else [source]
        events, position = self._events.read(
            after, project=project, limit=limit, wait=wait, sources=sources
        )
        return [cloud_event(event) for event in events], position
