"""What is stored of learners: one state for each partition that they learn from."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.kernel.sql import UtcDateTime
from app.streams.tables import StreamsBase

_BIG = BigInteger().with_variant(Integer, "sqlite")


class LearnerState(StreamsBase):
    """What a processor of the kind ``learn`` has learnt of a partition (``SpeedModel.state``)."""

    __tablename__ = "streams_learners"

    processor: Mapped[str] = mapped_column(String(36), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    learnt: Mapped[int] = mapped_column(_BIG)
    state: Mapped[bytes] = mapped_column(LargeBinary)


class ViewModelState(StreamsBase):
    """The learner of a model view's speed state, as far as that state's offset."""

    __tablename__ = "streams_view_learners"

    view_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[bytes] = mapped_column(LargeBinary)


class ViewModelTotals(StreamsBase):
    """How the layers of a model view have foretold since the view was made, by partition."""

    __tablename__ = "streams_view_totals"

    view_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    drifts: Mapped[int] = mapped_column(Integer, default=0)
    drifted_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
