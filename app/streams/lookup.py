"""How the rows of this service are found."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.errors import Conflict, NotFound
from app.kernel.rows import the_row
from app.streams.tables import EVENTS_TOPIC, MAKING, REMOVING, Group, Topic


def find_topic(session: Session, call: Call, name: str, *, lock: bool = False) -> Topic:
    """A topic of the caller's project; raises NotFound, also while it is made or removed."""
    query = select(Topic).where(Topic.project == call.project, Topic.name == name)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None or row.pending in (MAKING, REMOVING):
        raise NotFound(f"There is no topic {name}")
    return row


def refuse_reserved(topic: Topic) -> None:
    """Raise Conflict for the topic that only the system writes."""
    if topic.name == EVENTS_TOPIC:
        raise Conflict(f"{EVENTS_TOPIC} is written by the system: it can be read, and no more")


def find_group(session: Session, call: Call, name: str, *, lock: bool = False) -> Group:
    """A group of clients in the caller's project; raises NotFound."""
    query = select(Group).where(
        Group.project == call.project, Group.name == name, Group.owner.is_(None)
    )
    return the_row(session, query, f"There is no consumer group {name}", lock=lock)
