"""What is stored of Lambda views: their definitions, batches and speed states."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.kernel.changes import ResourceRow
from app.kernel.long_work.lifecycle import WorkRow
from app.kernel.sql import UtcDateTime
from app.streams.tables import StreamsBase

_BIG = BigInteger().with_variant(Integer, "sqlite")
# Pages are cut by Python's order of the keys, which are ASCII.
_KEY = String(400).with_variant(String(400, collation="C"), "postgresql")

AGGREGATE, MODEL = "aggregate", "model"

Offsets = dict[str, int]
"""An offset for each partition, which is named by its number."""


class LambdaView(ResourceRow, StreamsBase):
    """A view: what it tells of which topic, and which of its batches answers are merged with.

    What begins with ``serving`` changes when a batch is swapped in, outside the row version.
    ``serving_number`` 0 stands for the batch of no records, from ``origin`` to ``origin``.
    """

    __tablename__ = "streams_views"
    __table_args__ = (UniqueConstraint("project", "name"),)

    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(String(1000))
    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    kind: Mapped[str] = mapped_column(String(16))
    topic: Mapped[str] = mapped_column(String(63))
    topic_id: Mapped[str] = mapped_column(String(36), index=True)
    group_id: Mapped[str] = mapped_column(String(36))
    definition: Mapped[dict[str, Any]] = mapped_column(JSON)
    every_seconds: Mapped[int | None] = mapped_column(Integer)
    lag_records: Mapped[int | None] = mapped_column(Integer)
    origin: Mapped[Offsets] = mapped_column(JSON)
    last_number: Mapped[int] = mapped_column(Integer, default=0)
    serving_number: Mapped[int] = mapped_column(Integer, default=0)
    serving_offsets: Mapped[Offsets] = mapped_column(JSON)
    serving_contents: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    serving_since: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"lambda-views/{self.name}"

    @property
    def aggregate(self) -> dict[str, Any]:
        """What an aggregate view tells; a view of another kind has no such thing."""
        if self.kind != AGGREGATE:
            raise AttributeError(AGGREGATE)
        return self.definition

    @property
    def model(self) -> dict[str, Any]:
        """What a model view tells; a view of another kind has no such thing."""
        if self.kind != MODEL:
            raise AttributeError(MODEL)
        return self.definition

    @property
    def origin_offsets(self) -> Offsets:
        """The first record of each partition that it counts."""
        return self.origin

    @property
    def batch(self) -> dict[str, int | None]:
        """When batches are made by themselves."""
        return {"every_seconds": self.every_seconds, "lag_records": self.lag_records}

    @property
    def batch_version(self) -> int:
        """The batch that answers are merged with; 0: none yet."""
        return self.serving_number


class ViewBatch(WorkRow, StreamsBase):
    """One batch of a view: the fold of ``[origin, offsets)``, and what became of it.

    ``base`` is the batch that it continues, where records before that one's offsets are gone.
    ``training`` is how a model view's batch is made: its dataset version, run and model version.
    """

    __tablename__ = "streams_view_batches"
    __table_args__ = (UniqueConstraint("view_id", "number"),)

    view_id: Mapped[str] = mapped_column(String(36))
    view: Mapped[str] = mapped_column(String(63))
    number: Mapped[int] = mapped_column(Integer)
    cause: Mapped[str] = mapped_column(String(16))
    offsets: Mapped[Offsets | None] = mapped_column(JSON)
    base: Mapped[int | None] = mapped_column(Integer)
    records: Mapped[int | None] = mapped_column(_BIG)
    skipped: Mapped[int | None] = mapped_column(_BIG)
    groups: Mapped[int | None] = mapped_column(_BIG)
    digest: Mapped[str | None] = mapped_column(String(80))
    contents: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    training: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    outcome: Mapped[str | None] = mapped_column(String(16))

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"lambda-views/{self.view}/batches/{self.number}"

    @property
    def about(self) -> dict[str, Any]:
        """What its events tell of it."""
        return {"view": self.view, "version": self.number}

    @property
    def version(self) -> int:
        """The number, as clients call it."""
        return self.number


class SpeedState(StreamsBase):
    """How far the records of one partition after one batch are folded in, and into what.

    ``digest`` is that of its rows (``aggregation.digest_of``).
    """

    __tablename__ = "streams_view_speed"

    view_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True)
    offset: Mapped[int] = mapped_column(_BIG)
    records: Mapped[int] = mapped_column(_BIG, default=0)
    skipped: Mapped[int] = mapped_column(_BIG, default=0)
    digest: Mapped[str] = mapped_column(String(64), default="0" * 64)
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SpeedRow(StreamsBase):
    """The tallies of one group of a speed state."""

    __tablename__ = "streams_view_rows"

    view_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True)
    key: Mapped[str] = mapped_column(_KEY, primary_key=True)
    tallies: Mapped[str] = mapped_column(Text)
