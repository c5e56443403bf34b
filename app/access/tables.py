"""What is stored of projects and keys. Of a key only the SHA-256 is kept."""

from datetime import datetime

from sqlalchemy import JSON, Boolean, LargeBinary, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kernel.changes import ResourceRow
from app.kernel.sql import NAMING, UtcDateTime


class AccessBase(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)


class Project(ResourceRow, AccessBase):
    """A tenant. ``project`` of the row is its own name."""

    __tablename__ = "access_projects"
    __table_args__ = (UniqueConstraint("project"),)

    description: Mapped[str] = mapped_column(String(1000), default="")

    @property
    def name(self) -> str:
        """The project's name."""
        return self.project

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"projects/{self.project}"


class Key(ResourceRow, AccessBase):
    """An API key, without its secret."""

    __tablename__ = "access_keys"

    key_id: Mapped[str] = mapped_column(String(8), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    admin: Mapped[bool] = mapped_column(Boolean, default=False)
    created_by: Mapped[str] = mapped_column(String(40))
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"keys/{self.key_id}"

    @property
    def hexdigest(self) -> str:
        """The digest as text."""
        return self.digest.hex()
