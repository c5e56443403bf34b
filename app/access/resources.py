"""``/projects`` and ``/keys``."""

from typing import Any, cast

from flask import Response, after_this_request, current_app
from flask.views import MethodView

from app.access import schemas
from app.access.service import KEYS, PROJECTS, ROLES, Access
from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call

blp = Blueprint("access", __name__, description="Projects and keys.")

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


@blp.route("/api/v1/keys/<key_id:key_id>/record")
class KeyRecord(MethodView):
    """Who a key stands for."""

    @secured("keys:verify")
    @blp.doc(tags=["peers"])
    @blp.response(200, schemas.KeyRecordOut)
    def get(self, key_id: str) -> Any:
        """Tell a peer whom a key stands for"""
        after_this_request(_not_kept)
        return _access().get_record(key_id)
