"""The kind ``aggregate``: keyed windows by event time, told when they close or at each change.

The open windows of a partition are rows: a batch writes those that it changed. They are read once,
when the partition is opened.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.orm import Session

from app.kernel.log.seam import NewRecord, Record
from app.kernel.sql import Database
from app.streams.processors.handling import Outcome, Share
from app.streams.processors.tables import ProcessorWatermark, ProcessorWindow
from app.streams.processors.values import (
    Refused,
    json_object,
    moment_of,
    number_of,
    time_of,
    told_time,
)
from app.streams.processors.windows import (
    MOST_OPEN,
    Aggregate,
    Gathered,
    Place,
    Told,
    TooManyWindows,
    WindowFold,
    Windowing,
)

_MOST: Final = 500
_SECOND: Final = 1_000_000
DROP: Final = "drop"


def windowing_of(config: Mapping[str, Any]) -> Windowing:
    """What a configuration asks for."""
    window = config["window"]
    size = round(window["size_seconds"] * _SECOND)
    hop = window.get("hop_seconds")
    return Windowing(
        size=size,
        hop=size if hop is None else round(hop * _SECOND),
        lateness=round(config["lateness_seconds"] * _SECOND),
        aggregates={
            name: Aggregate(one["function"], one.get("field"))
            for name, one in config["aggregates"].items()
        },
        on_change=config["emit"] == "change",
    )


class Aggregating:
    """Folds records into windows."""

    most = _MOST

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, share: Share) -> "AggregateHandler":
        """A handler on the windows that were open."""
        with self._database.read() as session:
            mark = session.get(ProcessorWatermark, (share.processor, share.partition))
            query = select(ProcessorWindow).where(*_windows_of(share))
            rows = session.scalars(query)
            windows = [(Place(row.start, row.key), Gathered.from_json(row.state)) for row in rows]
        watermark = None if mark is None else mark.watermark
        fold = WindowFold(windowing_of(share.config), watermark, windows)
        return AggregateHandler(share, fold)


class AggregateHandler:
    """The windows of one partition."""

    def __init__(self, share: Share, fold: WindowFold) -> None:
        self._share = share
        self._fold = fold
        self._fields = windowing_of(share.config).fields
        self._ahead = round(share.config["ahead_seconds"] * _SECOND)

    def handle(self, records: Sequence[Record]) -> Outcome:
        """Fold all of them."""
        outcome = Outcome(taken=len(records))
        for record in records:
            try:
                told = self._take(record)
            except Refused as error:
                outcome.refused.append((record, error))
                continue
            if told is not None:
                outcome.outputs.extend(self._output(one) for one in told)
            elif self._share.config["late"] == DROP:
                outcome.late += 1
            else:
                outcome.refused.append((record, Refused("late", "All its windows are closed")))
        return outcome

    def keep(self, session: Session) -> None:
        """Write the windows that have changed, and the watermark."""
        share = {"processor": self._share.processor, "partition": self._share.partition}
        changed = self._fold.changes()
        if changed:
            old = [{"of_start": place.start, "of_key": place.key} for place, _ in changed]
            session.connection().execute(
                delete(ProcessorWindow).where(
                    *_windows_of(self._share),
                    ProcessorWindow.start == bindparam("of_start"),
                    ProcessorWindow.key == bindparam("of_key"),
                ),
                old,
            )
        new = [
            {**share, "start": place.start, "key": place.key, "state": gathered.as_json()}
            for place, gathered in changed
            if gathered is not None
        ]
        if new:
            session.execute(insert(ProcessorWindow), new)
        if self._fold.watermark is not None:
            session.merge(ProcessorWatermark(**share, watermark=self._fold.watermark))

    def close(self) -> None:
        """Nothing is held outside of the database."""

    def _take(self, record: Record) -> list[Told] | None:
        if record.key is None:
            raise Refused("no_key", "A record without a key belongs to no window")
        value = json_object(record.value)
        name = self._share.config["time_field"]
        happened = told_time(record.timestamp)
        time = happened if name is None else time_of(value, name)
        if time > happened + self._ahead:
            raise Refused("in_the_future", "The event time lies too far past the record's own")
        numbers = {field: number_of(value, field) for field in self._fields}
        known = {field: number for field, number in numbers.items() if number is not None}
        try:
            return self._fold.take(record.key, time, known)
        except TooManyWindows as error:
            detail = f"So many windows of a partition are open already: {MOST_OPEN}"
            raise Refused("too_many_windows", detail) from error

    def _output(self, told: Told) -> NewRecord:
        value = {
            "key": told.place.key.decode("utf-8", "replace"),
            "window": {"start": moment_of(told.place.start), "end": moment_of(told.end)},
            "values": told.values,
            "final": told.final,
        }
        return NewRecord(
            json.dumps(value).encode(),
            key=told.place.key,
            headers={"content-type": "application/json"},
        )


def _windows_of(share: Share) -> tuple[Any, ...]:
    return (
        ProcessorWindow.processor == share.processor,
        ProcessorWindow.partition == share.partition,
    )
