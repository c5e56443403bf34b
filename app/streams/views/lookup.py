"""Finding views by their names."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.errors import NotFound
from app.streams.views.tables import LambdaView


def find_view(session: Session, call: Call, name: str, *, lock: bool = False) -> LambdaView:
    """A view of the caller's project; raises NotFound."""
    query = select(LambdaView).where(LambdaView.project == call.project, LambdaView.name == name)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"There is no Lambda view {name}")
    return row
