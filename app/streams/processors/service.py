"""Processors: what can be done with them as resources. What they do is done by ``lane``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import Conflict, Invalid, NotFound
from app.kernel.http.pagination import Listing, Page
from app.kernel.rows import all_rows, the_row
from app.kernel.signing import KeyRing
from app.kernel.sql import utc_now
from app.streams.groups import Groups, lag, positions
from app.streams.learning.tables import LearnerState
from app.streams.lookup import find_topic, refuse_reserved
from app.streams.processors.kinds import KindRules
from app.streams.processors.lane import Tools
from app.streams.processors.positions import Start, offsets_at
from app.streams.processors.progress import faded, progress_of
from app.streams.processors.tables import (
    RUNNING,
    Processor,
    ProcessorProgress,
    ProcessorWatermark,
    ProcessorWindow,
)
from app.streams.tables import Assignment, Topic

PROCESSORS = Listing(
    "Processors",
    {
        "name": Processor.name,
        "kind": Processor.kind,
        "state": Processor.state,
        "topic": Processor.topic,
        "created_at": Processor.created_at,
        "updated_at": Processor.updated_at,
    },
    order=("created_at", "updated_at", "name"),
    identity=Processor.id,
)
_FOLDED: Final = (ProcessorWatermark, ProcessorWindow, LearnerState)
_TABLES: Final = (ProcessorProgress, *_FOLDED)


@dataclass(frozen=True)
class Shown:
    """A processor and how it gets on."""

    row: Processor
    offsets: Mapping[int, int] = field(default_factory=dict)
    bounds: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    readers: Mapping[int, bool] = field(default_factory=dict)
    progress: Mapping[int, ProcessorProgress] = field(default_factory=dict)
    now: datetime = field(default_factory=utc_now)

    @property
    def lag(self) -> int:
        """How many records it has still to read."""
        return sum(lag(self.offsets, self.bounds).values())

    @property
    def rate(self) -> float:
        """Records a second over about the last minute."""
        return round(sum(faded(row, self.now) for row in self.progress.values()), 3)

    @property
    def counts(self) -> dict[str, int]:
        """What has become of records so far."""
        names = ("taken", "written", "dead", "dropped", "late", "gone", "errors")
        rows = self.progress.values()
        return {name: sum(getattr(row, name) for row in rows) for name in names}

    @property
    def last_failure(self) -> dict[str, Any] | None:
        """What went wrong last, and where."""
        told = [
            {"partition": partition, **row.last_failure}
            for partition, row in self.progress.items()
            if row.last_failure is not None
        ]
        return max(told, key=lambda one: str(one["at"]), default=None)

    @property
    def partitions(self) -> list[dict[str, Any]]:
        """Each partition: what is read next, what is still to be read, whether somebody reads."""
        behind = lag(self.offsets, self.bounds)
        return [
            {
                "partition": partition,
                "offset": offset,
                "lag": behind.get(partition, 0),
                "active": self.readers.get(partition, False),
                "retrying": _retrying(self.progress.get(partition), offset),
            }
            for partition, offset in sorted(self.offsets.items())
        ]

    def __getattr__(self, name: str) -> Any:
        """What is of its kind stands under the kind's name; everything else is the processor's."""
        if name == self.row.kind:
            return self.row.config
        return getattr(self.row, name)


class Processors:
    """The project's processors. ``kinds`` says of each kind what its configuration must be."""

    def __init__(self, tools: Tools, ring: KeyRing, kinds: Mapping[str, KindRules]) -> None:
        self._tools = tools
        self._database = tools.database
        self._ring = ring
        self._kinds = kinds
        self._changes = Changes(tools.database, "streams")

    @property
    def _groups(self) -> Groups:
        return self._tools.groups

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[Shown]:
        """The processors of the caller's project, without how they get on."""
        query = select(Processor).where(Processor.project == call.project)
        with self._database.read() as session:
            page = PROCESSORS.page(session, query, arguments, self._ring, call.project)
        return Page([Shown(row) for row in page.items], page.next_page_token)

    def get(self, call: Call, name: str) -> Shown:
        """A processor; raises NotFound."""
        with self._database.read() as session:
            return self._shown(find_processor(session, call, name))

    def every(self) -> Iterator[Shown]:
        """All processors of all projects, and how they get on."""
        for row in all_rows(self._database, Processor):
            with suppress(NotFound):
                yield self._shown(row)

    def create(self, call: Call, body: Mapping[str, Any]) -> Shown:
        """A new processor; raises Invalid for a topic that isn't there, Conflict for its name."""
        kind, config = body["kind"], dict(body[body["kind"]])
        _permit(call, self._kinds[kind], config)
        with self._database.read() as session:
            topic = _topic(session, call, body["topic"], "/topic")
        # The log may be elsewhere: it is asked before the transaction.
        offsets = offsets_at(self._tools.log, topic.id, Start(to=body["start"]))
        with self._changes.begin(call) as change:
            _refuse_taken(change.session, call, body["name"])
            row = Processor(project=call.project, kind=kind, config=config)
            for member in ("name", "description", "tags", "tries", "state"):
                setattr(row, member, body[member])
            topics = _locked_topics(change.session, call, body)
            if topics["topic"].id != topic.id:
                raise Conflict(f"The topic {topic.name} has been made anew meanwhile")
            self._connect(row, topics)
            group = self._groups.make(
                change.session,
                topic,
                f"processors/{row.name}",
                offsets,
                owner=f"processors/{row.name}",
            )
            row.group_id = group.id
            change.session.add(row)
            change.record("processor.created", row.subject, told_of(row))
            shown = Shown(row, offsets, {p: (at, at) for p, at in offsets.items()})
            change.answer(shown)
        return self.get(call, row.name)

    def update(self, call: Call, name: str, changes: Mapping[str, Any]) -> Shown:
        """Change what is given; raises NotFound, and Invalid for what can't be changed."""
        with self._changes.begin(call) as change:
            row = find_processor(change.session, call, name, lock=True)
            change.guard(row)
            for member in ("description", "tags", "tries"):
                if member in changes:
                    setattr(row, member, changes[member])
            if row.kind in changes:
                row.config = self._changed(call, row, changes[row.kind])
                self._fence(change.session, row)
            others = self._kinds.keys() & changes.keys() - {row.kind}
            if others:
                other = min(others)
                raise Invalid.at(f"/{other}", "other_kind", f"The processor's kind is {row.kind}")
            change.record("processor.updated", row.subject, told_of(row))
        return self.get(call, name)

    def set_state(self, call: Call, name: str, state: str) -> Shown:
        """Let it run, or pause it: once that is answered, nothing more is done. NotFound."""
        with self._changes.begin(call) as change:
            row = find_processor(change.session, call, name, lock=True)
            change.guard(row)
            if row.state != state:
                row.state = state
                self._fence(change.session, row)
                done = "resumed" if state == RUNNING else "paused"
                change.record(f"processor.{done}", row.subject, told_of(row))
        return self.get(call, name)

    def reset(self, call: Call, name: str, start: Start) -> Shown:
        """Begin anew elsewhere, with nothing folded; raises NotFound, Invalid."""
        with self._database.read() as session:
            topic_id = find_processor(session, call, name).topic_id
        offsets = offsets_at(self._tools.log, topic_id, start)
        with self._changes.begin(call) as change:
            row = find_processor(change.session, call, name, lock=True)
            if row.topic_id != topic_id:
                raise Conflict("The processor has been made anew meanwhile")
            before = positions(change.session, row.group_id)
            self._groups.seek(change.session, row.group_id, {**before, **offsets})
            row.generation += 1
            self._forget_folded(change.session, row, sorted(offsets))
            told = {"offsets": {str(p): at for p, at in sorted(offsets.items())}}
            change.record("processor.reset", row.subject, {**told_of(row), **told})
            shown = Shown(row, {**before, **offsets})
            change.answer(shown)
        return self.get(call, name)

    def remove(self, call: Call, name: str) -> None:
        """Remove a processor; its outputs stay. Raises NotFound."""
        with self._changes.begin(call) as change:
            row = find_processor(change.session, call, name, lock=True)
            change.guard(row)
            change.record("processor.deleted", row.subject, told_of(row))
            self._groups.remove(change.session, row.group_id)
            for table in _TABLES:
                change.session.execute(delete(table).where(table.processor == row.id))
            change.session.delete(row)

    def referrers(self, session: Session, topic: Topic) -> Sequence[dict[str, str]]:
        """The processors that need a topic, and why."""
        uses = {
            "reads it": Processor.topic_id,
            "writes to it": Processor.output_id,
            "puts dead letters into it": Processor.dead_letter_id,
        }
        return [
            {
                "service": "streams",
                "subject": row.subject,
                "state": row.state,
                "reason": f"The processor {use}",
            }
            for use, column in uses.items()
            for row in session.scalars(select(Processor).where(column == topic.id).limit(20))
        ]

    def _shown(self, row: Processor) -> Shown:
        bounds = self._tools.log.bounds(row.topic_id)
        with self._database.read() as session:
            query = select(Assignment).where(Assignment.group_id == row.group_id)
            assigned = list(session.scalars(query))
            read = row.state == RUNNING and self._groups.is_read(session, row.group_id)
            progress = {one.partition: one for one in progress_of(session, row.id)}
        return Shown(
            row,
            {one.partition: one.offset for one in assigned},
            bounds,
            {one.partition: read and one.member_id is not None for one in assigned},
            progress,
        )

    def _connect(self, row: Processor, topics: Mapping[str, Topic]) -> None:
        """Let it read and write the topics that were named."""
        has_output = self._kinds[row.kind].has_output
        if has_output != ("output_topic" in topics):
            code = "missing" if has_output else "not_offered"
            detail = f"The kind {row.kind} has {'an' if has_output else 'no'} output topic"
            raise Invalid.at("/output_topic", code, detail)
        for member, topic in topics.items():
            if member != "topic":
                refuse_reserved(topic)
                if topic.id == topics["topic"].id:
                    raise Invalid.at(f"/{member}", "own_input", "It would read what it has written")
            setattr(row, member, topic.name)
            setattr(
                row, member.replace("topic", "id") if member != "topic" else "topic_id", topic.id
            )

    def _changed(self, call: Call, row: Processor, config: Mapping[str, Any]) -> dict[str, Any]:
        rules = self._kinds[row.kind]
        merged = {**row.config, **config}
        changed = {name for name, value in merged.items() if value != row.config.get(name)}
        if changed if rules.is_folded else changed & rules.fixed:
            detail = "What is kept would not fit any more: make another processor"
            raise Invalid.at(f"/{row.kind}", "immutable", detail)
        _permit(call, rules, merged)
        return merged

    def _fence(self, session: Session, row: Processor) -> None:
        """Let no step that is under way be kept."""
        self._groups.seek(session, row.group_id, positions(session, row.group_id))

    def _forget_folded(self, session: Session, row: Processor, partitions: Sequence[int]) -> None:
        for table in _FOLDED:
            session.execute(
                delete(table).where(table.processor == row.id, table.partition.in_(partitions))
            )
        for one in progress_of(session, row.id):
            if one.partition in partitions:
                one.tried_offset, one.tries, one.last_failure = None, 0, None


def find_processor(session: Session, call: Call, name: str, *, lock: bool = False) -> Processor:
    """A processor of the caller's project; raises NotFound."""
    query = select(Processor).where(Processor.project == call.project, Processor.name == name)
    return the_row(session, query, f"There is no processor {name}", lock=lock)


def _permit(call: Call, rules: KindRules, config: Mapping[str, Any]) -> None:
    """Raise Invalid, and Forbidden for what the caller could not do by itself."""
    if rules.scope is not None:
        call.require(rules.scope)
    rules.check(config)


def told_of(row: Processor) -> dict[str, Any]:
    """What events tell of a processor."""
    return {"processor": row.name, "kind": row.kind, "topic": row.topic, "state": row.state}


def _locked_topics(session: Session, call: Call, body: Mapping[str, Any]) -> dict[str, Topic]:
    """The topics that a body names, by its members; locked in one order for all who do so."""
    names = {
        member: body[member]
        for member in ("topic", "output_topic", "dead_letter_topic")
        if body[member] is not None
    }
    found = {
        name: _topic(session, call, name, f"/{member}", lock=True)
        for name, member in sorted((name, member) for member, name in names.items())
    }
    return {member: found[name] for member, name in names.items()}


def _topic(session: Session, call: Call, name: str, pointer: str, *, lock: bool = False) -> Topic:
    try:
        return find_topic(session, call, name, lock=lock)
    except NotFound as error:
        raise Invalid.at(pointer, "unknown_topic", error.detail) from error


def _refuse_taken(session: Session, call: Call, name: str) -> None:
    query = select(Processor.id).where(Processor.project == call.project, Processor.name == name)
    if session.scalar(query) is not None:
        raise Conflict(f"There is a processor {name} already")


def _retrying(row: ProcessorProgress | None, offset: int) -> int:
    """How often the record that is read next has been tried in vain."""
    return row.tries if row is not None and row.tried_offset == offset else 0
