"""Answers of aggregate views: the batch's rows merged with those of the speed states.

What an answer is made of is read in one snapshot of the database, so it is that of one offset in
each partition, and any replica gives the same one there. Without a speed layer that works, answers
stay where it stopped: ``behind`` and ``staleness_ms`` tell how far that is.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel.artifacts.store import ArtifactMissing
from app.kernel.auth import Call
from app.kernel.errors import Conflict, Gone, Invalid, Malformed, NotFound, Unavailable
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.seam import OffsetGone, RecordLog
from app.kernel.signing import KeyRing
from app.kernel.sql import Database
from app.streams.views.aggregation import Aggregation, key_of
from app.streams.views.contents import BatchRows, HeldBatches
from app.streams.views.lookup import find_view
from app.streams.views.tables import AGGREGATE, LambdaView, Offsets, SpeedRow, SpeedState

MERGE: Final = "sum"
_TRIES: Final = 3
_PURPOSE: Final = "view-page"


@dataclass(frozen=True)
class Snapshot:
    """What answers are made of, as of one moment."""

    view: LambdaView
    states: Sequence[SpeedState]
    batch: BatchRows
    found: Mapping[str, Sequence[str]]
    """Of some keys, the tallies that the speed states have."""

    @property
    def reached(self) -> Offsets:
        """The offset before which all records of a partition count."""
        return {str(state.partition): state.offset for state in self.states}


@dataclass(frozen=True)
class Lag:
    """What is missing from an answer: how many records, and since when."""

    behind: int | None
    staleness_ms: int
    gap: bool = False


class Answers:
    """Reads views."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        held: HeldBatches,
        record_log: RecordLog,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._database = database
        self._ring = ring
        self._held = held
        self._log = record_log
        self._clock = clock

    def value(self, call: Call, name: str, key_text: str | None) -> dict[str, Any]:
        """The measures of one group; raises NotFound, Invalid for what can be no key, Gone where
        records were dropped before they were counted.
        """
        aggregation, key = self._asked(call, name, key_text)
        snapshot = self._snapshot(call, name, [key])
        known = key in snapshot.found or key in snapshot.batch.rows
        if aggregation.group_by and not known:
            raise NotFound(f"The view {name} has seen no record of this group")
        return {
            "view": name,
            **self._group(aggregation, snapshot, key),
            **self._position(snapshot),
        }

    def _asked(self, call: Call, name: str, key_text: str | None) -> tuple[Aggregation, str]:
        with self._database.read() as session:
            view = find_view(session, call, name)
        aggregation = aggregation_of(view)
        return aggregation, parse_key(aggregation, key_text)

    def values(self, call: Call, name: str, size: int, token: str | None) -> dict[str, Any]:
        """A page of groups in the order of their keys, as of one moment each page."""
        after = "" if token is None else self._opened(call, name, token)
        snapshot = self._snapshot(call, name, None, after=after, limit=size + 1)
        aggregation = aggregation_of(snapshot.view)
        keys = sorted({*snapshot.found, *snapshot.batch.after(after, size + 1)})
        return {
            "view": name,
            "items": [self._group(aggregation, snapshot, key) for key in keys[:size]],
            "next_page_token": self._token(call, name, keys[size - 1])
            if len(keys) > size
            else None,
            **self._position(snapshot),
        }

    def state(self, call: Call, name: str) -> dict[str, Any]:
        """How far a view is, with the digests of what it has come to."""
        snapshot = self._snapshot(call, name, [])
        view = snapshot.view
        bounds = self._log.bounds(view.topic_id)
        partitions = [
            {
                "partition": state.partition,
                "batch_offset": view.serving_offsets[str(state.partition)],
                "speed_offset": state.offset,
                "first": bounds[state.partition][0],
                "head": bounds[state.partition][1],
                "records": state.records,
                "skipped": state.skipped,
                "digest": state.digest,
                "moved_at": state.moved_at,
                "gap": bounds[state.partition][0] > state.offset,
            }
            for state in snapshot.states
        ]
        lag = self.lag(snapshot.view, snapshot.states)
        return {
            "view": name,
            "kind": view.kind,
            "merge": view.definition.get("merge", MERGE),
            "origin_offsets": view.origin,
            "batch_version": view.serving_number,
            "batch_offsets": view.serving_offsets,
            "batch_digest": (view.serving_contents or {}).get("digest"),
            "batch_since": view.serving_since,
            "partitions": partitions,
            "behind": lag.behind,
            "staleness_ms": lag.staleness_ms,
        }

    def _snapshot(
        self,
        call: Call,
        name: str,
        keys: Sequence[str] | None,
        *,
        after: str = "",
        limit: int = 0,
    ) -> Snapshot:
        """The view with the speed rows of some keys, or of the next ones after a key."""
        for last in (*[False] * (_TRIES - 1), True):
            with one_moment(self._database) as session:
                view = find_view(session, call, name)
                states = states_of(session, view)
                if keys is None:
                    rows = _rows(session, view, _next_keys(session, view, after, limit))
                else:
                    rows = _rows(session, view, keys)
            try:
                return Snapshot(view, states, self._held.open(_contents_of(view)), rows)
            except ArtifactMissing:
                # Two batches may have come between the reading of the row and of the file.
                if last:
                    raise
        raise AssertionError("unreachable")

    def _group(self, aggregation: Aggregation, snapshot: Snapshot, key: str) -> dict[str, Any]:
        texts = [snapshot.batch.rows.get(key), *snapshot.found.get(key, ())]
        tallies = aggregation.merged(texts) or aggregation.nothing()
        group = dict(zip(aggregation.group_by, json.loads(key), strict=True))
        return {
            "key": json.loads(key),
            "group": group,
            "values": aggregation.told(tallies),
            "ignored": aggregation.ignored(tallies),
        }

    def _position(self, snapshot: Snapshot) -> dict[str, Any]:
        """Which records an answer counts; raises Gone where some never will be."""
        lag = self.lag(snapshot.view, snapshot.states)
        if lag.gap:
            raise Gone(
                "Records were dropped from the topic before they were counted: make a new view",
                extra={"speed_offsets": snapshot.reached},
            )
        return {
            "batch_version": snapshot.view.serving_number,
            "batch_offsets": snapshot.view.serving_offsets,
            "speed_offsets": snapshot.reached,
            "merge": MERGE,
            "behind": lag.behind,
            "staleness_ms": lag.staleness_ms,
            "skipped": snapshot.batch.skipped + sum(state.skipped for state in snapshot.states),
        }

    def lag(self, view: LambdaView, states: Sequence[SpeedState]) -> Lag:
        """How far speed states are behind the log."""
        now = self._clock.now()
        try:
            bounds = self._log.bounds(view.topic_id)
            late = [one for one in states if bounds[one.partition][1] > one.offset]
            behind = sum(bounds[one.partition][1] - one.offset for one in late)
            gap = any(bounds[one.partition][0] > one.offset for one in late)
            since = [self._next_time(view.topic_id, one, now) for one in late]
        except Unavailable:
            # How many there are, only the log can tell.
            since = [one.moved_at for one in states]
            return Lag(None, _milliseconds(now - min(since)))
        return Lag(behind, _milliseconds(now - min(since, default=now)), gap)

    def _next_time(self, topic_id: str, state: SpeedState, now: datetime) -> datetime:
        """The time of the first record that a state doesn't count."""
        try:
            found = self._log.read(topic_id, state.partition, state.offset, 1)
        except OffsetGone:
            return state.moved_at
        return min(found[0].timestamp, now) if found else now

    def _token(self, call: Call, name: str, key: str) -> str:
        payload = urlsafe_b64encode(json.dumps([call.project, name, key]).encode()).decode()
        return f"{payload}.{self._ring.sign(_PURPOSE, payload.encode())}"

    def _opened(self, call: Call, name: str, token: str) -> str:
        payload, _, signature = token.partition(".")
        if not self._ring.verify(_PURPOSE, payload.encode("utf-8", "replace"), signature):
            raise Malformed("The page_token is not one of ours")
        project, view, key = json.loads(urlsafe_b64decode(payload))
        if (project, view) != (call.project, name):
            raise Invalid.at("?page_token", "other_list", "The page_token belongs to another list")
        return str(key)


def aggregation_of(view: LambdaView) -> Aggregation:
    """What an aggregate view tells; raises Conflict for a view of another kind."""
    if view.kind != AGGREGATE:
        raise Conflict(f"The view {view.name} is of the kind {view.kind}: it has no groups")
    return Aggregation.of(view.definition)


def _contents_of(view: LambdaView) -> Mapping[str, Any] | None:
    """Where the rows of the batch lie, which only an aggregate view has."""
    return view.serving_contents if view.kind == AGGREGATE else None


def parse_key(aggregation: Aggregation, text: str | None) -> str:
    """The canonical text of a group that a client names; raises Invalid."""
    wanted = f"A JSON array with a value for each of: {', '.join(aggregation.group_by)}"
    if text is None and aggregation.group_by:
        raise Invalid.at("?key", "not_a_key", wanted)
    try:
        values = msgspec.json.decode(text or "[]")
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        raise Invalid.at("?key", "not_a_key", wanted) from error
    if not isinstance(values, list) or len(values) != len(aggregation.group_by):
        raise Invalid.at("?key", "not_a_key", wanted)
    key = key_of(values)
    if key is None:
        raise Invalid.at("?key", "not_a_key", "Strings, numbers, booleans or null, not too long")
    return key


@contextmanager
def one_moment(database: Database) -> Iterator[Session]:
    """A session all of whose reading is of one moment, on Postgres as on SQLite."""
    with database.read() as session:
        if database.dialect == "postgresql":
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session


def states_of(session: Session, view: LambdaView) -> Sequence[SpeedState]:
    query = select(SpeedState).where(
        SpeedState.view_id == view.id, SpeedState.number == view.serving_number
    )
    return session.scalars(query.order_by(SpeedState.partition)).all()


def _rows(session: Session, view: LambdaView, keys: Sequence[str]) -> dict[str, list[str]]:
    """The tallies of some groups, by key, in the order of the partitions."""
    query = select(SpeedRow.key, SpeedRow.tallies).where(
        SpeedRow.view_id == view.id,
        SpeedRow.number == view.serving_number,
        SpeedRow.key.in_(keys),
    )
    found: dict[str, list[str]] = {}
    for key, tallies in session.execute(query.order_by(SpeedRow.partition)):
        found.setdefault(key, []).append(tallies)
    return found


def _next_keys(session: Session, view: LambdaView, after: str, limit: int) -> list[str]:
    """The next groups after one that the speed states have."""
    query = select(SpeedRow.key).where(
        SpeedRow.view_id == view.id,
        SpeedRow.number == view.serving_number,
        SpeedRow.key > after,
    )
    return list(session.scalars(query.distinct().order_by(SpeedRow.key).limit(limit)))


def _milliseconds(span: timedelta) -> int:
    return max(0, round(span.total_seconds() * 1000))
