"""What of this service needs a model or a dataset to stay: processors and views that name it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.long_work.lifecycle import ENDED
from app.kernel.sql import Database
from app.streams.processors.kinds import ARCHIVE, PREDICT
from app.streams.processors.tables import Processor
from app.streams.views.tables import MODEL, LambdaView, ViewBatch

_MOST: Final = 100


class References:
    """Answers services that are about to delete something."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_dataset(self, call: Call, dataset: str) -> Sequence[Mapping[str, Any]]:
        """What writes to a dataset, any version of which may go."""
        with self._database.read() as session:
            found = [
                _told(row.subject, row.state, "The processor archives into it")
                for row in _processors(session, call, ARCHIVE)
                if row.config["dataset"] == dataset
            ]
            found += [
                _told(view.subject, "active", "The view's batches are trained on it")
                for view in _views(session, call)
                if view.definition["dataset"] == dataset
            ]
        return found[:_MOST]

    def of_model(
        self, call: Call, model: str, version: int | None, *, is_default: bool
    ) -> Sequence[Mapping[str, Any]]:
        """What uses a version of a model, or with None any part of it.

        ``is_default``: the version is what the model's bare name stands for. An alias is not
        looked at for a version: the models service keeps what one points at.
        """
        with self._database.read() as session:
            found = [
                _told(row.subject, row.state, "The processor scores with it")
                for row in _processors(session, call, PREDICT)
                if _names(row.config["model"], model, version, is_default)
            ]
            found += [
                _told(view.subject, "active", reason)
                for view in _views(session, call)
                if view.definition["model"] == model
                and (reason := _reason(session, view, version)) is not None
            ]
        return found[:_MOST]


def _told(subject: str, state: str, reason: str) -> dict[str, Any]:
    return {"subject": subject, "state": state, "reason": reason}


def _processors(session: Session, call: Call, kind: str) -> Iterator[Processor]:
    mine = (Processor.project == call.project, Processor.kind == kind)
    yield from session.scalars(select(Processor).where(*mine).order_by(Processor.name))


def _views(session: Session, call: Call) -> Iterator[LambdaView]:
    mine = (LambdaView.project == call.project, LambdaView.kind == MODEL)
    yield from session.scalars(select(LambdaView).where(*mine).order_by(LambdaView.name))


def _names(reference: str, model: str, version: int | None, is_default: bool) -> bool:
    """Whether a reference names the version, or with None any part of the model."""
    name, _, alias = reference.partition("@")
    name, _, number = name.partition("/")
    if name != model or version is None:
        return name == model
    return int(number) == version if number else is_default and not alias


def _reason(session: Session, view: LambdaView, version: int | None) -> str | None:
    """Why a view needs a version of its model; None: it doesn't."""
    if version is None:
        return "The view's batches are versions of it"
    mine = (ViewBatch.view_id == view.id,)
    under_way = select(ViewBatch.id).where(*mine, ViewBatch.stored_state.not_in(ENDED)).limit(1)
    if session.scalar(under_way) is not None:
        # The version that it is having made may be there before the batch knows its number.
        return "A batch of the view is under way"
    serving = select(ViewBatch).where(*mine, ViewBatch.number == view.serving_number)
    batch = session.scalar(serving)
    if batch is None or (batch.training or {}).get("model_version") != version:
        return None
    return "The view's answers are merged with it"
