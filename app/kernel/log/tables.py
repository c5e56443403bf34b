"""The tables of record logs that live in a database."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kernel.log.seam import Overflow, Shape
from app.kernel.sql import KernelBase

_BIG = BigInteger().with_variant(Integer, "sqlite")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """A time as it is kept: thousands are written and read at once."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(kept: int) -> datetime:
    """The time that was kept."""
    return _EPOCH + timedelta(microseconds=kept)


class LogTopic(KernelBase):
    """A topic and what it is like."""

    __tablename__ = "kernel_log_topics"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    partitions: Mapped[int]
    replicas: Mapped[int]
    max_age: Mapped[int | None] = mapped_column(_BIG)
    max_records: Mapped[int | None] = mapped_column(_BIG)
    max_bytes: Mapped[int | None] = mapped_column(_BIG)
    overflow: Mapped[Overflow] = mapped_column(String(11))

    @property
    def shape(self) -> Shape:
        """What it is like."""
        return Shape(
            partitions=self.partitions,
            replicas=self.replicas,
            max_age=None if self.max_age is None else timedelta(microseconds=self.max_age),
            max_records=self.max_records,
            max_bytes=self.max_bytes,
            overflow=self.overflow,
        )

    def become(self, shape: Shape) -> None:
        """Be like this from now on."""
        self.partitions, self.replicas = shape.partitions, shape.replicas
        self.max_age = None if shape.max_age is None else shape.max_age // _MICROSECOND
        self.max_records, self.max_bytes = shape.max_records, shape.max_bytes
        self.overflow = shape.overflow


class LogPartition(KernelBase):
    """A partition's head: writers hold its lock from drawing offsets until they commit.

    A partition without a topic was deleted with it; its records go by and by.
    """

    __tablename__ = "kernel_log_partitions"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    topic: Mapped[str | None] = mapped_column(String(64))
    number: Mapped[int]
    first: Mapped[int] = mapped_column(_BIG, default=0)
    end: Mapped[int] = mapped_column(_BIG, default=0)
    bytes: Mapped[int] = mapped_column(_BIG, default=0)

    __table_args__ = (UniqueConstraint("topic", "number"), {"sqlite_autoincrement": True})


class LogRecord(KernelBase):
    """A record; times are microseconds since 1970."""

    __tablename__ = "kernel_log_records"

    partition_id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    id: Mapped[str | None] = mapped_column(String(255))
    timestamp: Mapped[int] = mapped_column(_BIG)
    appended_at: Mapped[int] = mapped_column(_BIG)
    size: Mapped[int]
    key: Mapped[bytes | None] = mapped_column(LargeBinary)
    value: Mapped[bytes] = mapped_column(LargeBinary)
    headers: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index(
            "uq_kernel_log_records_ids",
            "partition_id",
            "id",
            unique=True,
            sqlite_where=text("id IS NOT NULL"),
            postgresql_where=text("id IS NOT NULL"),
        ),
    )
