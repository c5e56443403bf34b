"""``/audit`` and ``/events``: of each process, over the services that it serves."""

from contextlib import nullcontext
from typing import Any, cast

from flask import current_app
from flask.views import MethodView

from app.access import schemas
from app.access.trail import Trail
from app.access.whole_trail import WholeTrail
from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.slots import Slots

blp = Blueprint("trail", __name__, description="What happened, and who did it.")


def _trail() -> Trail | WholeTrail:
    return cast("Trail | WholeTrail", current_app.extensions["trail"])


@blp.route("/api/v1/audit")
class Audit(MethodView):
    """Who did what."""

    @secured("audit:read")
    @blp.doc(operationId="listAudit")
    @blp.arguments(schemas.AuditQuery, location="query")
    @blp.response(200, schemas.AuditList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List who did what, from where, with what outcome; newest first"""
        return _trail().audit(current_call(), arguments["page_token"], arguments["page_size"])


@blp.route("/api/v1/events")
class Events(MethodView):
    """What happened."""

    @secured("events:read")
    @blp.arguments(schemas.EventQuery, location="query")
    @blp.response(200, schemas.EventList)
    @blp.alt_response(410, "Gone")
    def get(self, arguments: dict[str, Any]) -> Any:
        """List what happened, in the order of the commits

        Pass `next_position` back as `after`; `after=latest` begins with what comes now. With
        `wait`, the answer comes at the next event or after so many seconds. Old events are dropped:
        a position after which some are gone is 410, with the `first_position` to go on from.
        """
        call = current_call()
        slots = cast("Slots", current_app.extensions["stream_slots"])
        # Peers are few and always there: they must not take the places of clients.
        place = nullcontext() if call.peer else slots.hold()
        with place:
            events, position = _trail().events(call, **arguments)
        return {"items": events, "next_position": position}
