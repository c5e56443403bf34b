"""What is stored of datasets, their versions, and who holds a version right now."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kernel.changes import ResourceRow
from app.kernel.sql import NAMING, UtcDateTime, new_id

_BIG = BigInteger().with_variant(Integer, "sqlite")


class DatasetsBase(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)


class Dataset(ResourceRow, DatasetsBase):
    """A name under which versions are numbered. ``last_number`` counts up and never back."""

    __tablename__ = "datasets_datasets"
    __table_args__ = (UniqueConstraint("project", "name"),)

    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(String(1000), default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    last_number: Mapped[int] = mapped_column(default=0)
    newest_version: Mapped[int | None] = mapped_column(default=None)
    removal: Mapped[str | None] = mapped_column(String(36), default=None)
    removal_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"datasets/{self.name}"


class Version(ResourceRow, DatasetsBase):
    """One table, once and for all: where it came from, how it looks, where its bytes lie.

    ``upload_key`` is set as long as the sent bytes wait in the store to be converted. A removal
    that is under way names itself in ``removal`` and is believed until ``removal_until``. What
    begins with ``origin`` is told of versions that were made of a topic's records (``archives``).
    """

    __tablename__ = "datasets_versions"
    __table_args__ = (
        UniqueConstraint("project", "dataset", "number"),
        UniqueConstraint(
            *("project", "origin_source", "origin_partition", "origin_first"),
            name="uq_datasets_versions_origin",
        ),
    )

    dataset_id: Mapped[str] = mapped_column(
        String(36),
        ForeignKey("datasets_datasets.id", name="fk_datasets_versions_dataset_id"),
        index=True,
    )
    dataset: Mapped[str] = mapped_column(String(63))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), index=True)
    format: Mapped[str] = mapped_column(String(16))
    filename: Mapped[str | None] = mapped_column(String(255))
    source_digest: Mapped[str] = mapped_column(String(80))
    source_bytes: Mapped[int] = mapped_column(_BIG)
    reading: Mapped[dict[str, Any]] = mapped_column(JSON)
    upload_key: Mapped[str | None] = mapped_column(String(300), default=None)
    created_by: Mapped[str] = mapped_column(String(40))
    request_id: Mapped[str] = mapped_column(String(128))
    origin: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    origin_source: Mapped[str | None] = mapped_column(String(63), default=None)
    origin_partition: Mapped[int | None] = mapped_column(default=None)
    origin_first: Mapped[int | None] = mapped_column(_BIG, default=None)
    origin_next: Mapped[int | None] = mapped_column(_BIG, default=None)

    digest: Mapped[str | None] = mapped_column(String(80), default=None)
    rows: Mapped[int | None] = mapped_column(_BIG, default=None)
    rejected: Mapped[int | None] = mapped_column(_BIG, default=None)
    columns: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON, default=None)
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    storage_key: Mapped[str | None] = mapped_column(String(300), default=None)
    storage_digest: Mapped[str | None] = mapped_column(String(80), default=None)
    bytes: Mapped[int | None] = mapped_column(_BIG, default=None)
    rejects_key: Mapped[str | None] = mapped_column(String(300), default=None)
    rejects_digest: Mapped[str | None] = mapped_column(String(80), default=None)
    rejects_bytes: Mapped[int | None] = mapped_column(_BIG, default=None)

    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON, default=None)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    removal: Mapped[str | None] = mapped_column(String(36), default=None)
    removal_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.finished_at is not None

    @property
    def version(self) -> int:
        """The number, as clients call it."""
        return self.number

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"datasets/{self.dataset}/versions/{self.number}"


class Hold(DatasetsBase):
    """Somebody who needs a version to stay for a while: until it has made a row that says so."""

    __tablename__ = "datasets_holds"
    __table_args__ = (UniqueConstraint("version_id", "holder"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    version_id: Mapped[str] = mapped_column(
        ForeignKey("datasets_versions.id", name="fk_datasets_holds_version_id")
    )
    holder: Mapped[str] = mapped_column(String(200))
    until: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
