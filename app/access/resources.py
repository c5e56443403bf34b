"""``/projects``, ``/keys``, ``/audit`` and ``/events``."""

from contextlib import nullcontext
from typing import Any, cast

from flask import Response, after_this_request, current_app
from flask.views import MethodView

from app.access import schemas
from app.access.service import KEYS, PROJECTS, ROLES, Access
from app.kernel.auth import secured
from app.kernel.events import cloud_event
from app.kernel.http import Blueprint, current_call
from app.kernel.slots import Slots

blp = Blueprint("access", __name__, description="Projects, keys, the audit trail and the events.")

_PROJECT = {"name": "team-a", "description": "Churn models"}
_KEY = {"name": "notebook", "role": "trainer", "expires_at": "2030-01-01T00:00:00Z"}


def _access() -> Access:
    return cast("Access", current_app.extensions["access"])


def _not_kept(response: Response) -> Response:
    """An answer that holds a secret is kept by nobody on the way."""
    response.headers["Cache-Control"] = "no-store"
    return response


@blp.route("/api/v1/projects")
class Projects(MethodView):
    """All projects."""

    @secured("projects:admin")
    @blp.arguments(PROJECTS.schema(), location="query")
    @blp.response(200, schemas.ProjectList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List projects"""
        return _access().list_projects(current_call(), arguments)

    @secured("projects:admin")
    @blp.arguments(schemas.ProjectIn, example=_PROJECT)
    @blp.creates(201, schemas.ProjectOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a project"""
        return _access().create_project(current_call(), body["name"], body["description"])


@blp.route("/api/v1/projects/<name:project>")
class Project(MethodView):
    """One project."""

    @secured("projects:admin")
    @blp.response(200, schemas.ProjectOut)
    def get(self, project: str) -> Any:
        """Get a project"""
        return _access().get_project(project)


@blp.route("/api/v1/keys")
class Keys(MethodView):
    """The keys of the project."""

    @secured("keys:admin")
    @blp.arguments(KEYS.schema(), location="query")
    @blp.response(200, schemas.KeyList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List the project's keys, without their secrets"""
        return _access().list_keys(current_call(), arguments)

    @secured("keys:admin")
    @blp.arguments(schemas.KeyIn, example=_KEY)
    @blp.creates(201, schemas.KeyMade)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a key

        The answer holds the secret, this once.
        """
        after_this_request(_not_kept)
        scopes = frozenset(body["scopes"]) | ROLES.get(body["role"] or "", frozenset())
        return _access().create_key(
            current_call(),
            name=body["name"],
            scopes=scopes,
            project=body["project"],
            expires_at=body["expires_at"],
        )


@blp.route("/api/v1/keys/<key_id:key_id>")
class Key(MethodView):
    """One key."""

    @secured("keys:admin")
    @blp.response(200, schemas.KeyOut)
    def get(self, key_id: str) -> Any:
        """Get a key, without its secret"""
        return _access().get_key(current_call(), key_id)

    @secured("keys:admin")
    @blp.response(204)
    def delete(self, key_id: str) -> None:
        """Revoke a key; in force everywhere within 5 seconds"""
        _access().revoke_key(current_call(), key_id)


@blp.route("/api/v1/audit")
class Audit(MethodView):
    """Who did what."""

    @secured("audit:read")
    @blp.doc(operationId="listAudit")
    @blp.arguments(schemas.AuditQuery, location="query")
    @blp.response(200, schemas.AuditList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List who did what, from where, with what outcome; newest first"""
        return _access().audit(current_call(), arguments["page_token"], arguments["page_size"])


@blp.route("/api/v1/events")
class Events(MethodView):
    """What happened."""

    @secured("events:read")
    @blp.arguments(schemas.EventQuery, location="query")
    @blp.response(200, schemas.EventList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List what happened, in the order of the commits

        Pass `next_position` back as `after`; `after=latest` begins with what comes now. With
        `wait`, the answer comes at the next event or after so many seconds.
        """
        call = current_call()
        slots = cast("Slots", current_app.extensions["stream_slots"])
        # Peers are few and always there: they must not take the places of clients.
        place = nullcontext() if call.peer else slots.hold()
        with place:
            events, position = _access().read_events(call, **arguments)
        return {"items": [cloud_event(event) for event in events], "next_position": position}
