"""What is stored of processors: what they are to do, how they get on, and what they have folded."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.kernel.changes import ResourceRow
from app.kernel.sql import UtcDateTime
from app.streams.tables import StreamsBase

RUNNING, PAUSED = "running", "paused"
_BIG = BigInteger().with_variant(Integer, "sqlite")


class Processor(ResourceRow, StreamsBase):
    """What is done with each record of a topic. Its group of readers has its id.

    ``config`` is of its kind. ``generation`` counts its resets: what it makes anew is no duplicate
    of what it made before.
    """

    __tablename__ = "streams_processors"
    __table_args__ = (UniqueConstraint("project", "name"),)

    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(String(1000), default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(10), index=True)
    topic: Mapped[str] = mapped_column(String(63))
    topic_id: Mapped[str] = mapped_column(String(36), index=True)
    output_topic: Mapped[str | None] = mapped_column(String(63))
    output_id: Mapped[str | None] = mapped_column(String(36), index=True)
    dead_letter_topic: Mapped[str | None] = mapped_column(String(63))
    dead_letter_id: Mapped[str | None] = mapped_column(String(36), index=True)
    tries: Mapped[int]
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    group_id: Mapped[str] = mapped_column(String(36))
    generation: Mapped[int] = mapped_column(default=0)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"processors/{self.name}"


class ProcessorProgress(StreamsBase):
    """How a processor gets on with one partition.

    ``tries`` counts those at the record of ``tried_offset``. ``rate`` is records a second as of
    ``rated_at``; it fades with time.
    """

    __tablename__ = "streams_processor_progress"

    processor: Mapped[str] = mapped_column(String(36), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    taken: Mapped[int] = mapped_column(_BIG, default=0)
    written: Mapped[int] = mapped_column(_BIG, default=0)
    dead: Mapped[int] = mapped_column(_BIG, default=0)
    dropped: Mapped[int] = mapped_column(_BIG, default=0)
    late: Mapped[int] = mapped_column(_BIG, default=0)
    gone: Mapped[int] = mapped_column(_BIG, default=0)
    errors: Mapped[int] = mapped_column(_BIG, default=0)
    rate: Mapped[float] = mapped_column(Float, default=0.0)
    rated_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    tried_offset: Mapped[int | None] = mapped_column(_BIG, default=None)
    tries: Mapped[int] = mapped_column(default=0)
    last_failure: Mapped[dict[str, Any] | None] = mapped_column(JSON, default=None)


class ProcessorWatermark(StreamsBase):
    """The latest event time of a partition that an aggregate has seen, microseconds since 1970."""

    __tablename__ = "streams_processor_watermarks"

    processor: Mapped[str] = mapped_column(String(36), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    watermark: Mapped[int] = mapped_column(_BIG)


class ProcessorWindow(StreamsBase):
    """An open window of an aggregate; ``start`` is in microseconds since 1970."""

    __tablename__ = "streams_processor_windows"

    processor: Mapped[str] = mapped_column(String(36), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    state: Mapped[list[Any]] = mapped_column(JSON)
