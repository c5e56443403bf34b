"""Lambda views as resources: made, listed, changed, deleted."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import Conflict, Invalid, NotFound
from app.kernel.http.pagination import Listing, Page
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock
from app.kernel.log.seam import RecordLog
from app.kernel.long_work.lifecycle import forget_events
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id
from app.streams.groups import Groups
from app.streams.learning.rules import refuse_clashes
from app.streams.learning.tables import ViewModelState, ViewModelTotals
from app.streams.lookup import find_topic
from app.streams.tables import Topic
from app.streams.views.answers import Answers
from app.streams.views.batches import JOB, ViewBatches, batches_of
from app.streams.views.contents import HeldBatches
from app.streams.views.leftovers import ViewLeftovers
from app.streams.views.lookup import find_view
from app.streams.views.ports import Training
from app.streams.views.swap import Swaps, add_states
from app.streams.views.tables import AGGREGATE, MODEL, LambdaView, Offsets, SpeedState

VIEWS = Listing(
    "LambdaViews",
    {
        "name": LambdaView.name,
        "created_at": LambdaView.created_at,
        "updated_at": LambdaView.updated_at,
        "topic": LambdaView.topic,
        "kind": LambdaView.kind,
    },
    order=("created_at", "updated_at", "name"),
    identity=LambdaView.id,
)
_COLUMNS = ("name", "description", "tags", "kind", "topic", "batch")


def refuse_twins(definition: Mapping[str, Any]) -> None:
    """Raise Invalid where two fields or two measures have one name."""
    named = {
        "group_by": definition["group_by"],
        "measures": [measure["name"] for measure in definition["measures"]],
    }
    for member, names in named.items():
        for place, name in enumerate(names):
            if name in names[:place]:
                raise Invalid.at(f"/aggregate/{member}/{place}", "duplicate", "It stands twice")


KINDS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    AGGREGATE: refuse_twins,
    MODEL: partial(refuse_clashes, member=MODEL),
}
"""What refuses a definition that its schema lets pass, by the kinds of views.

A new kind is a row here, its fields in ``schemas``, who answers for it (``answers`` does for
aggregate views), and in the processor role a source of its own.
"""


class LambdaViews:
    """What can be done with views; ``batches`` and ``answers`` do the rest.

    Which process folds which partition is decided by a group of readers, one for each view. A
    view's ``definition`` is what the request says under the name of its kind; ``of_topic`` says
    which views need a topic to stay.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        store: ArtifactStore,
        groups: Groups,
        *,
        jobs: BoundedQueue,
        record_log: RecordLog,
        training: Training,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._database = database
        self._changes = Changes(database, "streams")
        self._ring = ring
        self._jobs = jobs
        self._groups = groups
        self._log = record_log
        self._clock = clock
        self._swaps = Swaps(database, store, clock)
        self.leftovers = ViewLeftovers(database, store, self._swaps)
        self.batches = ViewBatches(database, ring, jobs, record_log, training)
        self.answers = Answers(database, ring, HeldBatches(store), record_log, clock)

    def list(self, call: Call, arguments: Mapping[str, Any]) -> Page[LambdaView]:
        """The views of the caller's project."""
        query = select(LambdaView).where(LambdaView.project == call.project)
        with self._database.read() as session:
            return VIEWS.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, name: str) -> LambdaView:
        """A view; raises NotFound."""
        with self._database.read() as session:
            return find_view(session, call, name)

    def create(self, call: Call, wanted: Mapping[str, Any]) -> LambdaView:
        """A view over the records that its topic keeps, from the first one on.

        Raises Conflict when the name is taken, Invalid for a topic that isn't there.
        """
        KINDS[wanted["kind"]](wanted[wanted["kind"]])
        try:
            with self._database.read() as session:
                topic = find_topic(session, call, wanted["topic"])
            origin = {str(place): first for place, (first, _) in self._log.bounds(topic.id).items()}
            view = _view_of(call, wanted, topic, origin, self._clock)
            with self._changes.begin(call) as change:
                # Locked: from now on it can't be deleted without seeing the view.
                if find_topic(change.session, call, topic.name, lock=True).id != topic.id:
                    raise Conflict(f"The topic {topic.name} is being made anew")
                offsets = {int(place): first for place, first in origin.items()}
                group = self._groups.make(
                    change.session, topic, view.subject, offsets, owner=view.subject
                )
                view.group_id = group.id
                change.session.add(view)
                change.session.flush()
                add_states(change.session, view.id, 0, origin, self._clock)
                change.record("lambda-view.created", view.subject, _about(view))
                change.answer(view)
        except NotFound as error:
            raise Invalid.at("/topic", "unknown_topic", error.detail) from error
        except IntegrityError as error:
            raise Conflict(f"There is a Lambda view {wanted['name']} already") from error
        return view

    def update(self, call: Call, name: str, changes: Mapping[str, Any]) -> LambdaView:
        """Change what is given of description, tags and when batches are made."""
        with self._changes.begin(call) as change:
            view = find_view(change.session, call, name, lock=True)
            change.guard(view)
            for field, value in (_columns(changes)).items():
                setattr(view, field, value)
            change.record("lambda-view.updated", view.subject, _about(view))
        return view

    def delete(self, call: Call, name: str) -> None:
        """Forget a view with its batches and states; a batch under way finds nothing to do."""
        with self._changes.begin(call) as change:
            view = find_view(change.session, call, name, lock=True)
            change.guard(view)
            batches = batches_of(change.session, view.id)
            for batch in batches:
                self._jobs.cancel_queued(change.session, JOB, batch.id)
                forget_events(change.session, batch)
                change.session.delete(batch)
            self._groups.remove(change.session, view.group_id)
            for table in (SpeedState, ViewModelState, ViewModelTotals):
                change.session.execute(delete(table).where(table.view_id == view.id))
            change.record("lambda-view.deleted", view.subject, _about(view))
            change.session.delete(view)
        self._swaps.clear(view.id, batches)

    def of_topic(self, session: Session, topic: Topic) -> Iterator[dict[str, str]]:
        """The views that need a topic to stay."""
        for view in session.scalars(select(LambdaView).where(LambdaView.topic_id == topic.id)):
            yield {
                "service": "streams",
                "subject": view.subject,
                "state": "active",
                "reason": "The view is made of its records",
            }


def _view_of(
    call: Call, wanted: Mapping[str, Any], topic: Topic, origin: Offsets, clock: Clock
) -> LambdaView:
    return LambdaView(
        id=new_id(),
        project=call.project,
        topic_id=topic.id,
        definition=dict(wanted[wanted["kind"]]),
        origin=origin,
        serving_offsets=origin,
        serving_since=clock.now(),
        **_columns({name: wanted[name] for name in _COLUMNS}),
    )


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a view's row, by the names of its columns."""
    schedule: Mapping[str, Any] = values.get("batch", {})
    return {name: values[name] for name in values if name != "batch"} | dict(schedule)


def _about(view: LambdaView) -> dict[str, Any]:
    """What events tell of a view."""
    return {"view": view.name, "kind": view.kind, "topic": view.topic}
