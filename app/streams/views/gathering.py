"""From the log to a training table: the examples of ``[origin, N)``, and what learners know then.

One pass over each partition joins rows with their labels. The examples become the table; the last
records before the cut teach the learner with which the speed layer begins. What still waits for its
label at the cut waits on in that learner's state, so its label is learnt from when it comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from app.kernel.log.seam import Record
from app.streams.learning.labelling import Example, Half, Unreadable
from app.streams.learning.speed_model import SpeedModel
from app.streams.views.model_definition import ModelDefinition

MOST_EXAMPLES: Final = 2_000_000


class TooManyExamples(Exception):
    """More than a training table may have."""


@dataclass
class Gathering:
    """What the passes over all partitions gather."""

    definition: ModelDefinition
    rows: list[dict[str, Any]] = field(default_factory=list)
    seeds: dict[int, SpeedModel] = field(default_factory=dict)
    records: int = 0
    skipped: int = 0

    def begin(self, partition: int, end: int) -> "PartitionPass":
        """The pass over a partition whose cut is at ``end``."""
        seed = self.seeds[partition] = SpeedModel(self.definition.spec)
        most = self.definition.seed_records
        return PartitionPass(self, seed, 0 if most is None else end - most)


@dataclass
class PartitionPass:
    """Takes the records of one partition in order; the learner learns from those past ``since``."""

    gathering: Gathering
    seed: SpeedModel
    since: int

    def take(self, records: Iterable[Record]) -> None:
        """Gather records. Raises TooManyExamples."""
        gathered = self.gathering
        for record in records:
            gathered.records += 1
            try:
                half = half_of(gathered.definition, record)
                example = self.seed.seed(half, learn=record.offset >= self.since)
            except ValueError:
                gathered.skipped += 1
                continue
            if example is not None:
                gathered.rows.append(self._row(example))
        if len(gathered.rows) > MOST_EXAMPLES:
            raise TooManyExamples

    def _row(self, example: Example) -> dict[str, Any]:
        target = self.gathering.definition.reading.target
        return {**example.row, target: example.target}


def half_of(definition: ModelDefinition, record: Record) -> Half:
    """What a record tells; raises Unreadable."""
    try:
        value = msgspec.json.decode(record.value)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Unreadable("The record isn't JSON") from error
    return definition.reading.of(value, record.id)
