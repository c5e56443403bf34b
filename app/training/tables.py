"""What is stored of training runs."""

from typing import Any

from sqlalchemy import JSON, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kernel.long_work.lifecycle import WorkRow
from app.kernel.sql import NAMING


class TrainingBase(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)


class TrainingRun(WorkRow, TrainingBase):
    """One request to train, and what became of it."""

    __tablename__ = "training_runs"
    __table_args__ = (
        Index("ix_training_runs_project_created", "project", "created_at", "id"),
        Index("ix_training_runs_dataset", "project", "dataset", "dataset_version"),
    )

    model: Mapped[str] = mapped_column(String(63))
    dataset: Mapped[str] = mapped_column(String(63))
    dataset_version: Mapped[int] = mapped_column(Integer)
    dataset_digest: Mapped[str] = mapped_column(String(100))
    dataset_origin: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    dataset_storage: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    target: Mapped[str | None] = mapped_column(String(255))
    estimator_name: Mapped[str] = mapped_column(String(63))
    priority: Mapped[int] = mapped_column(Integer)
    limits: Mapped[dict[str, Any]] = mapped_column(JSON)

    report: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    model_version: Mapped[int | None] = mapped_column(Integer)
    draft: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The report of an attempt that was about to register its version."""

    @property
    def subject(self) -> str:
        """The path below the API's prefix."""
        return f"training-runs/{self.id}"

    @property
    def about(self) -> dict[str, Any]:
        """What its events tell of it."""
        return {"model": self.model}

    @property
    def task(self) -> Any:
        """The task; None while it is still to be inferred."""
        return self._told("task")

    @property
    def features(self) -> Any:
        """The columns used; None while they are still to be chosen."""
        return self._told("features")

    @property
    def estimator(self) -> Any:
        """The estimator asked for; once the run has succeeded, as it was resolved."""
        return self._told("estimator")

    @property
    def validation(self) -> Any:
        """How the model is judged."""
        return self._told("validation")

    @property
    def random_state(self) -> int:
        """The seed of everything random."""
        return int(self.spec["random_state"])

    @property
    def refit(self) -> bool:
        """Whether the model is fitted again on all rows."""
        return bool(self.spec["refit"])

    @property
    def metrics(self) -> dict[str, Any] | None:
        """How good the model is on rows that it was not fitted on."""
        return (self.report or {}).get("metrics")

    @property
    def baseline(self) -> dict[str, Any] | None:
        """How good the class prior or the mean is on the same rows."""
        return (self.report or {}).get("baseline")

    @property
    def warnings(self) -> list[Any]:
        """What a reader should know."""
        return list((self.report or {}).get("warnings", []))

    def _told(self, name: str) -> Any:
        return (self.report or {}).get(name, self.spec.get(name))


class RunLog(TrainingBase):
    """A piece of what a run's process printed."""

    __tablename__ = "training_run_logs"

    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(Text)
