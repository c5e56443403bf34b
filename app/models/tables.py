"""What is stored of models, their versions and artifacts, and of where their aliases point."""

from datetime import datetime
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
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.kernel.artifacts.mac import ArtifactIdentity
from app.kernel.artifacts.stored import Stored
from app.kernel.changes import ResourceRow
from app.kernel.sql import NAMING, UtcDateTime, new_id, utc_now

IMPORTING, READY, FAILED, CORRUPT = "importing", "ready", "failed", "corrupt"
STATES = (IMPORTING, READY, FAILED, CORRUPT)
FORMATS = ("joblib", "compiled", "onnx")
UPLOAD = "upload"
DEFAULT_ALIAS = "champion"

_BYTES = BigInteger().with_variant(Integer, "sqlite")


class ModelsBase(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)


class Model(ResourceRow, ModelsBase):
    """A name under which versions are numbered. ``last_number`` counts up and never back.

    ``newest_version`` is the highest ready one. A removal that is under way names itself in
    ``removal`` and is believed until ``removal_until``.
    """

    __tablename__ = "models_models"
    __table_args__ = (UniqueConstraint("project", "name"),)

    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(String(1000), default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    retention: Mapped[dict[str, int] | None] = mapped_column(JSON(none_as_null=True))
    last_number: Mapped[int] = mapped_column(default=0)
    newest_version: Mapped[int | None] = mapped_column(default=None)
    removal: Mapped[str | None] = mapped_column(String(36), default=None)
    removal_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)

    alias_rows: Mapped[list["Alias"]] = relationship(
        lazy="selectin", viewonly=True, order_by="Alias.alias"
    )

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"models/{self.name}"

    @property
    def aliases(self) -> dict[str, int]:
        """Where each alias points."""
        return {row.alias: row.version for row in self.alias_rows}

    @property
    def default_version(self) -> int | None:
        """The version that the bare name stands for: the default alias's, else the newest."""
        return self.aliases.get(DEFAULT_ALIAS, self.newest_version)


class Version(ResourceRow, ModelsBase):
    """One fitted model, once and for all; ``document`` holds what is only ever shown whole.

    ``training_run``, ``dataset`` and ``dataset_version`` repeat what the document's lineage says,
    for those who look a version up by them.
    """

    __tablename__ = "models_versions"
    __table_args__ = (
        UniqueConstraint("project", "model", "number"),
        UniqueConstraint("project", "training_run"),
        Index("ix_models_versions_model_id", "model_id", "number"),
        Index("ix_models_versions_dataset", "project", "dataset", "dataset_version"),
    )

    model_id: Mapped[str] = mapped_column(String(36), ForeignKey("models_models.id"))
    model: Mapped[str] = mapped_column(String(63))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), index=True)
    task: Mapped[str | None] = mapped_column(String(32))
    training_run: Mapped[str | None] = mapped_column(String(36))
    dataset: Mapped[str | None] = mapped_column(String(63))
    dataset_version: Mapped[int | None]
    description: Mapped[str] = mapped_column(String(1000), default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    document: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    removal: Mapped[str | None] = mapped_column(String(36), default=None)
    removal_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)

    all_artifacts: Mapped[list["Artifact"]] = relationship(
        lazy="selectin", viewonly=True, order_by="Artifact.format"
    )

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"models/{self.model}/versions/{self.number}"

    @property
    def artifacts(self) -> list["Artifact"]:
        """What can be loaded or downloaded; an upload that is still to be converted is not."""
        return [artifact for artifact in self.all_artifacts if artifact.format in FORMATS]

    @property
    def lineage(self) -> dict[str, Any]:
        """Where the version comes from."""
        return {**(self.document.get("lineage") or {}), "training_run": self.training_run}

    @property
    def library_versions(self) -> dict[str, str]:
        """The versions of the libraries that the version was made with."""
        return dict(self.lineage.get("library_versions") or {})


class Artifact(ModelsBase):
    """Bytes in the store. Without a version they are on their way out: no row may name them again.

    The unique key decides between who would register bytes and who would clear them away.
    """

    __tablename__ = "models_artifacts"
    __table_args__ = (UniqueConstraint("version_id", "format"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    project: Mapped[str] = mapped_column(String(63))
    version_id: Mapped[str | None] = mapped_column(String(36), ForeignKey("models_versions.id"))
    format: Mapped[str] = mapped_column(String(16))
    key: Mapped[str] = mapped_column(String(300), unique=True)
    digest: Mapped[str] = mapped_column(String(80))
    bytes: Mapped[int] = mapped_column(_BYTES)
    mac: Mapped[str] = mapped_column(String(64), default="")

    @property
    def stored(self) -> Stored:
        """Where the bytes lie, and what they are."""
        return Stored(self.key, self.digest, self.bytes)

    def identity(self, version: Version) -> ArtifactIdentity:
        """What its MAC is made over."""
        return ArtifactIdentity(
            project=self.project,
            owner=version.subject,
            format=self.format,
            stored=self.stored,
            library_versions=version.library_versions,
        )


class Alias(ResourceRow, ModelsBase):
    """A name for one version at a time."""

    __tablename__ = "models_aliases"
    __table_args__ = (UniqueConstraint("model_id", "alias"),)

    model_id: Mapped[str] = mapped_column(String(36), ForeignKey("models_models.id"))
    model: Mapped[str] = mapped_column(String(63))
    alias: Mapped[str] = mapped_column(String(63))
    version: Mapped[int]
    reason: Mapped[str] = mapped_column(String(1000), default="")
    moved_by: Mapped[str] = mapped_column(String(40))
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"models/{self.model}/aliases/{self.alias}"


class AliasMove(ModelsBase):
    """One move of an alias; rows are only ever added.

    ``number`` counts the moves of this alias. ``before`` is the move to which a rollback returns:
    so two rollbacks in a row go two moves back, not to and fro.
    """

    __tablename__ = "models_alias_moves"
    __table_args__ = (UniqueConstraint("model_id", "alias", "number"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    project: Mapped[str] = mapped_column(String(63))
    model_id: Mapped[str] = mapped_column(String(36), ForeignKey("models_models.id"))
    alias: Mapped[str] = mapped_column(String(63))
    number: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    from_version: Mapped[int | None]
    to_version: Mapped[int | None]
    before: Mapped[int | None]
    reason: Mapped[str] = mapped_column(String(1000), default="")
    moved_by: Mapped[str] = mapped_column(String(40))
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
