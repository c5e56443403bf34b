"""What is stored of topics, and of who reads them and how far."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kernel.changes import ResourceRow
from app.kernel.log.seam import Overflow, Shape
from app.kernel.sql import NAMING, UtcDateTime

MAKING, CHANGING, REMOVING = "making", "changing", "removing"
EVENTS_TOPIC = "modelyard.events"
RESERVED_PREFIX = "modelyard."

_BIG = BigInteger().with_variant(Integer, "sqlite")


class StreamsBase(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)


class Topic(ResourceRow, StreamsBase):
    """A name for a topic of the record log, which knows it by the row's id.

    ``pending`` is what the log may not have done yet: a row that is being made or removed is there
    for nobody, and is swept when whoever did it has died.
    """

    __tablename__ = "streams_topics"
    __table_args__ = (UniqueConstraint("project", "name"),)

    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(String(1000), default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    partitions: Mapped[int]
    replicas: Mapped[int] = mapped_column(default=1)
    overflow: Mapped[Overflow] = mapped_column(String(11), default="reject")
    max_age_seconds: Mapped[int | None] = mapped_column(_BIG, default=None)
    max_records: Mapped[int | None] = mapped_column(_BIG, default=None)
    max_bytes: Mapped[int | None] = mapped_column(_BIG, default=None)
    max_lag: Mapped[int | None] = mapped_column(_BIG, default=None)
    pending: Mapped[str | None] = mapped_column(String(8), default=None)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"topics/{self.name}"

    @property
    def retention(self) -> dict[str, int | None]:
        """What of it is kept."""
        return {
            "max_age_seconds": self.max_age_seconds,
            "max_records": self.max_records,
            "max_bytes": self.max_bytes,
        }

    @property
    def shape(self) -> Shape:
        """What the record log is told of it."""
        age = self.max_age_seconds
        return Shape(
            partitions=self.partitions,
            replicas=self.replicas,
            max_age=None if age is None else timedelta(seconds=age),
            max_records=self.max_records,
            max_bytes=self.max_bytes,
            overflow=self.overflow,
        )


class Group(ResourceRow, StreamsBase):
    """Readers that share a topic. ``epoch`` counts the times that partitions changed hands.

    ``owner`` is the subject of what reads on our side; None: the group is a client's. Whoever
    changes its members or hands out partitions locks this row first.
    """

    __tablename__ = "streams_groups"
    __table_args__ = (UniqueConstraint("project", "name"),)

    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(String(1000), default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    topic_id: Mapped[str] = mapped_column(String(36), ForeignKey("streams_topics.id"), index=True)
    topic: Mapped[str] = mapped_column(String(63))
    owner: Mapped[str | None] = mapped_column(String(200), default=None)
    epoch: Mapped[int] = mapped_column(_BIG, default=0)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"consumer-groups/{self.name}"


class Member(ResourceRow, StreamsBase):
    """A reader of a group, believed alive until ``lease_until``."""

    __tablename__ = "streams_members"
    __table_args__ = (Index("ix_streams_members_group_id", "group_id", "id"),)

    group_id: Mapped[str] = mapped_column(String(36), ForeignKey("streams_groups.id"))
    group: Mapped[str] = mapped_column(String(200))
    client: Mapped[str] = mapped_column(String(200), default="")
    lease_until: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"consumer-groups/{self.group}/members/{self.id}"


class Assignment(StreamsBase):
    """Who reads a partition, since which epoch, and the offset that is to be read next."""

    __tablename__ = "streams_assignments"

    group_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("streams_groups.id"), primary_key=True
    )
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    member_id: Mapped[str | None] = mapped_column(String(36), default=None)
    epoch: Mapped[int] = mapped_column(_BIG, default=0)
    offset: Mapped[int] = mapped_column(_BIG)
    note: Mapped[str] = mapped_column(String(1000), default="")
    committed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class Feed(StreamsBase):
    """How far the events of one source have been written to the topics of events."""

    __tablename__ = "streams_feeds"

    source: Mapped[str] = mapped_column(String(300), primary_key=True)
    position: Mapped[str] = mapped_column(String(200))


def told_of(topic: Topic) -> dict[str, Any]:
    """What events tell of a topic."""
    return {"topic": topic.name, "partitions": topic.partitions, "retention": topic.retention}
