"""Finding views by their names."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.kernel.auth import Call
from app.kernel.rows import the_row
from app.streams.views.tables import LambdaView


def find_view(session: Session, call: Call, name: str, *, lock: bool = False) -> LambdaView:
    """A view of the caller's project; raises NotFound."""
    query = select(LambdaView).where(LambdaView.project == call.project, LambdaView.name == name)
    return the_row(session, query, f"There is no Lambda view {name}", lock=lock)
