"""Flights that left New York in the first half of 2013, as a stream: rows first, labels on landing.

A row comes when the plane is to leave, its label (does it arrive over 15 minutes late?) when it has
landed; a flight that never landed has none.
"""

import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from tests.acceptance.flights import LATE_MINUTES, unpacked

FEATURES = ("hour", "weekday", "carrier", "origin", "dest", "distance")
# What is a number to the batch model is a name to the learner.
CATEGORIES = frozenset({"hour", "weekday"})

_QUERY = """
SELECT id, departs, arrives, hour, weekday, carrier, origin, dest, distance, late FROM (
  SELECT row_number() OVER () AS id,
    make_timestamp(year, month, day, sched_dep_time // 100, sched_dep_time % 100, 0) AS departs,
    departs + to_minutes(CAST(greatest(air_time + 30 + arr_delay, 1) AS BIGINT)) AS arrives,
    sched_dep_time // 100 AS hour, dayofweek(make_date(year, month, day)) AS weekday,
    carrier, origin, dest, distance, arr_delay > {late} AS late
  FROM read_csv('{table}', nullstr = 'NA', sample_size = -1)
  WHERE month <= 6
) WHERE id % {every} = 0 AND late IS NOT NULL
ORDER BY departs, id
"""


class Moment(NamedTuple):
    """One record of the stream; ``late`` is None where the row is told, and the row where it is."""

    time: datetime
    flight: int
    row: dict[str, Any] | None
    late: bool | None


@cache
def moments(every: int = 1) -> tuple[Moment, ...]:
    """The records of each ``every``-th flight in the order of time."""
    with tempfile.TemporaryDirectory() as folder:
        query = _QUERY.format(late=LATE_MINUTES, every=every, table=unpacked(Path(folder)))
        with duckdb.connect(config={"threads": 1}) as connection:
            flights = connection.execute(query).fetchall()
    told = [moment for flight in flights for moment in _both(*flight)]
    return tuple(sorted(told, key=lambda moment: (moment.time, moment.late is None, moment.flight)))


def _both(flight: int, departs: datetime, arrives: datetime, *values: Any) -> Iterator[Moment]:
    *features, late = values
    yield Moment(departs, flight, dict(zip(FEATURES, features, strict=True)), None)
    yield Moment(max(arrives, departs + timedelta(minutes=1)), flight, None, late)
