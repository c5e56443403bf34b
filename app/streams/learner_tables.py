"""What is stored of learners: one state for each partition that they learn from."""

from sqlalchemy import BigInteger, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.streams.tables import StreamsBase

_BIG = BigInteger().with_variant(Integer, "sqlite")


class LearnerState(StreamsBase):
    """What a processor of the kind ``learn`` has learnt of a partition (``SpeedModel.state``)."""

    __tablename__ = "streams_learners"

    processor: Mapped[str] = mapped_column(String(36), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    learnt: Mapped[int] = mapped_column(_BIG)
    state: Mapped[bytes] = mapped_column(LargeBinary)
