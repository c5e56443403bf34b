"""What is stored of predictions, and the last known state of the models service's models."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kernel.changes import ResourceRow
from app.kernel.long_work.lifecycle import WorkRow
from app.kernel.sql import NAMING, UtcDateTime, utc_now


class PredictionsBase(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)


class Prediction(ResourceRow, PredictionsBase):
    """One stored prediction: what was asked, and what was answered. It never changes.

    Inputs and outputs are JSON text: nothing ever looks into them, and text need not be parsed.
    """

    __tablename__ = "predictions_stored"
    __table_args__ = (
        Index("ix_predictions_stored_project_created", "project", "created_at", "id"),
        Index("ix_predictions_stored_model", "project", "model", "version", "created_at"),
    )

    model: Mapped[str] = mapped_column(String(63))
    version: Mapped[int] = mapped_column(Integer)
    engine: Mapped[str] = mapped_column(String(16))
    rows: Mapped[int] = mapped_column(Integer)
    inputs_json: Mapped[str] = mapped_column(Text)
    outputs_json: Mapped[str] = mapped_column(Text)

    @property
    def inputs(self) -> Any:
        """The rows, as objects."""
        return json.loads(self.inputs_json)

    @property
    def outputs(self) -> Any:
        """What was answered, a row each."""
        return json.loads(self.outputs_json)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return subject_of(self.id)


def subject_of(prediction_id: str) -> str:
    """The path of a stored prediction below the API's prefix."""
    return f"predictions/{prediction_id}"


class BatchPrediction(WorkRow, PredictionsBase):
    """Predictions over all rows of a dataset version."""

    __tablename__ = "predictions_batches"
    __table_args__ = (
        Index("ix_predictions_batches_project_created", "project", "created_at", "id"),
    )

    model: Mapped[str] = mapped_column(String(63))
    version: Mapped[int] = mapped_column(Integer)
    dataset: Mapped[str] = mapped_column(String(63))
    dataset_version: Mapped[int] = mapped_column(Integer)
    dataset_storage: Mapped[dict[str, Any]] = mapped_column(JSON)

    rows: Mapped[int | None] = mapped_column(Integer)
    engine: Mapped[str | None] = mapped_column(String(16))
    contents: Mapped[dict[str, Any] | None] = mapped_column(JSON)

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"batch-predictions/{self.id}"

    @property
    def about(self) -> dict[str, Any]:
        """What its events tell of it."""
        return {"model": self.model, "version": self.version, "dataset": self.dataset}


class BatchPart(PredictionsBase):
    """The outputs of one finished chunk of a batch that is under way."""

    __tablename__ = "predictions_batch_parts"
    __table_args__ = (PrimaryKeyConstraint("batch_id", "number"),)

    batch_id: Mapped[str] = mapped_column(String(36))
    number: Mapped[int] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(80))
    bytes: Mapped[int] = mapped_column(BigInteger)


class KnownModel(PredictionsBase):
    """The last state of a model that the models service told: enough to serve without it."""

    __tablename__ = "predictions_models"
    __table_args__ = (PrimaryKeyConstraint("project", "model"),)

    project: Mapped[str] = mapped_column(String(63))
    model: Mapped[str] = mapped_column(String(63))
    state: Mapped[dict[str, Any]] = mapped_column(JSON)
    locations: Mapped[dict[str, Any]] = mapped_column(JSON)
    told_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)
