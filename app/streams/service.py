"""Topics: what can be done with them, and the parts that do it.

The record log may be elsewhere: it is never called inside a transaction. A row says what is pending
there, and whoever finds it so when its author has died does it again: all of it can be repeated.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import (
    Conflict,
    Invalid,
    NotFound,
    ServiceError,
    StillReferred,
    Unavailable,
)
from app.kernel.http.pagination import Listing, Page
from app.kernel.log.seam import RecordLog
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id, utc_now
from app.streams.groups import Groups
from app.streams.lookup import find_topic, refuse_reserved
from app.streams.tables import (
    CHANGING,
    EVENTS_TOPIC,
    MAKING,
    REMOVING,
    RESERVED_PREFIX,
    Group,
    Topic,
    told_of,
)

TOPICS = Listing(
    "Topics",
    {
        "name": Topic.name,
        "partitions": Topic.partitions,
        "created_at": Topic.created_at,
        "updated_at": Topic.updated_at,
    },
    order=("created_at", "updated_at", "name"),
    identity=Topic.id,
)
PENDING_SECONDS = 60.0
_SYSTEM = "system"

Referrers = Callable[[Session, Topic], Iterable[dict[str, str]]]
"""What of ours needs a topic to stay: each with ``service``, ``subject``, ``state``, ``reason``."""


@dataclass(frozen=True)
class ShownTopic:
    """A topic with the bounds of its partitions."""

    row: Topic
    bounds: Mapping[int, tuple[int, int]]

    @property
    def partition_bounds(self) -> list[dict[str, int]]:
        """In order of partitions."""
        return [
            {"partition": p, "first": first, "end": end}
            for p, (first, end) in sorted(self.bounds.items())
        ]

    def __getattr__(self, name: str) -> Any:
        """Everything else is the topic's."""
        return getattr(self.row, name)


class Topics:
    """Topics as names for those of the record log. ``groups`` keeps who reads them.

    ``referrers`` are asked before a topic is removed; ``replicas`` is what a topic has that doesn't
    say, where the log is replicated.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        log: RecordLog,
        groups: Groups,
        *,
        replicas: int = 1,
    ) -> None:
        self.database = database
        self.log = log
        self.groups = groups
        self.referrers: list[Referrers] = [self._living_groups]
        self._ring = ring
        self._replicas = replicas
        self._changes = Changes(database, "streams")

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[Topic]:
        """The topics of the caller's project."""
        there = Topic.pending.is_(None) | (Topic.pending == CHANGING)
        query = select(Topic).where(Topic.project == call.project, there)
        with self.database.read() as session:
            return TOPICS.page(session, query, arguments, self._ring, call.project)

    def find(self, call: Call, name: str) -> Topic:
        """A topic's row; raises NotFound."""
        with self.database.read() as session:
            return find_topic(session, call, name)

    def get(self, call: Call, name: str) -> ShownTopic:
        """A topic; raises NotFound."""
        return self._shown(self.find(call, name))

    def create(self, call: Call, name: str, **fields: Any) -> ShownTopic:
        """An empty topic; raises Invalid for a reserved name, Conflict for one that is taken."""
        if name.startswith(RESERVED_PREFIX):
            raise Invalid.at(
                "/name", "reserved", f"Names that begin with {RESERVED_PREFIX} are ours"
            )
        row = self._make(call, name, fields)
        shown = ShownTopic(row, dict.fromkeys(range(row.partitions), (0, 0)))
        with self._changes.begin(call) as change:
            if not self._settle(change.session, row):
                raise Unavailable("Making the topic took too long: it was given up", retry_after=1)
            change.record("topic.created", row.subject, told_of(row))
            change.answer(shown)
        return shown

    def ensure_events_topic(self, project: str, kept: timedelta) -> Topic:
        """The topic of a project's events, which is made when it isn't there."""
        call = Call(project, _SYSTEM, frozenset(), _SYSTEM)
        try:
            return self.find(call, EVENTS_TOPIC)
        except NotFound:
            fields: dict[str, Any] = {
                "description": "What happens in the project",
                "max_age_seconds": int(kept.total_seconds()),
                "overflow": "drop_oldest",
            }
            row = self._make(call, EVENTS_TOPIC, fields)
        with self.database.write() as session:
            self._settle(session, row)
        return row

    def update(self, call: Call, name: str, changes: Mapping[str, Any]) -> ShownTopic:
        """Change what is given of a topic; raises NotFound, Conflict."""
        with self._changes.begin(call) as change:
            row = find_topic(change.session, call, name, lock=True)
            change.guard(row)
            refuse_reserved(row)
            before = row.shape
            for field, value in changes.items():
                setattr(row, field, value)
            if row.shape != before:
                row.pending = CHANGING
            change.record("topic.updated", row.subject, told_of(row))
        if row.pending == CHANGING:
            self._finish(row)
        return self._shown(row)

    def remove(self, call: Call, name: str) -> None:
        """Remove a topic with its records and groups; raises NotFound, StillReferred."""
        with self._changes.begin(call) as change:
            row = find_topic(change.session, call, name, lock=True)
            change.guard(row)
            refuse_reserved(row)
            found = [one for ask in self.referrers for one in ask(change.session, row)]
            if found:
                raise StillReferred("Others still need the topic", extra={"referrers": found})
            row.pending = REMOVING
            change.record("topic.deleted", row.subject, told_of(row))
        self._finish(row)

    def sweep(self) -> int:
        """Finish what somebody has begun and left; how many topics that were."""
        with self.database.read() as session:
            before = utc_now() - timedelta(seconds=PENDING_SECONDS)
            query = select(Topic).where(Topic.pending.is_not(None), Topic.updated_at < before)
            rows = list(session.scalars(query))
        for row in rows:
            self._finish(row)
        return len(rows)

    def _make(self, call: Call, name: str, fields: Mapping[str, Any]) -> Topic:
        """A topic of the log, and a row that says that it is being made."""
        self._clear_leftover(call, name)
        row = Topic(id=new_id(), project=call.project, name=name, pending=MAKING)
        values = {"partitions": 1, "replicas": self._replicas, **fields}
        for field, value in values.items():
            setattr(row, field, value)
        try:
            with self._changes.begin(call) as change:
                change.session.add(row)
        except IntegrityError as error:
            raise Conflict(f"There is a topic {name} already") from error
        try:
            self.log.create(row.id, row.shape)
        except ServiceError:
            self._finish(row)
            raise
        return row

    def _clear_leftover(self, call: Call, name: str) -> None:
        """Make room where somebody died while making or removing a topic of this name."""
        query = select(Topic).where(Topic.project == call.project, Topic.name == name)
        with self.database.read() as session:
            row = session.scalar(query)
        if row is None or row.pending not in (MAKING, REMOVING):
            return
        if (utc_now() - row.updated_at).total_seconds() < PENDING_SECONDS:
            raise Conflict(f"A topic {name} is being made or removed", retry_after=1)
        self._finish(row)

    def _finish(self, row: Topic) -> None:
        """Do at the log what is pending, then in the tables."""
        if row.pending == CHANGING:
            self.log.change(row.id, row.shape)
            with self.database.write() as session:
                self._settle(session, row)
            return
        self.log.delete(row.id)
        with self.database.write() as session:
            groups = select(Group.id).where(Group.topic_id == row.id)
            for group_id in list(session.scalars(groups)):
                self.groups.remove(session, group_id)
            found = session.get(Topic, row.id)
            if found is not None:
                session.delete(found)

    def _settle(self, session: Session, row: Topic) -> bool:
        """Nothing is pending any more, if the row is as it was; that alone changes no ETag."""
        settled = session.scalar(
            update(Topic)
            .where(Topic.id == row.id, Topic.row_version == row.row_version)
            .values(pending=None, updated_at=Topic.updated_at)
            .returning(Topic.id)
            .execution_options(synchronize_session=False)
        )
        return settled is not None

    def _shown(self, row: Topic) -> ShownTopic:
        return ShownTopic(row, self.log.bounds(row.id))

    def _living_groups(self, session: Session, topic: Topic) -> Sequence[dict[str, str]]:
        rows = session.scalars(select(Group).where(Group.topic_id == topic.id))
        return [
            {
                "service": "streams",
                "subject": row.owner or row.subject,
                "state": "active",
                "reason": "It has living members",
            }
            for row in rows
            if self.groups.is_read(session, row.id)
        ]
