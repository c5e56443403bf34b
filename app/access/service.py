"""Projects and keys: making, listing, revoking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.access.tables import Key, Project
from app.access.trail import EVERY_PROJECT
from app.kernel.auth import Call, key_digest, key_id_of, new_key
from app.kernel.changes import Change, Changes
from app.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from app.kernel.http.pagination import Listing, Page
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, utc_now

DEFAULT_PROJECT = "default"

SCOPES: tuple[str, ...] = (
    "datasets:read",
    "datasets:write",
    "models:read",
    "models:write",
    "runs:read",
    "runs:write",
    "predictions:read",
    "predictions:write",
    "topics:read",
    "topics:write",
    "artifacts:read",
    "artifacts:import",
    "events:read",
    "metrics:read",
    "audit:read",
    "keys:admin",
    "projects:admin",
)
_READ = frozenset(scope for scope in SCOPES if scope.endswith(":read"))
_VIEWER = _READ - {"artifacts:read", "audit:read", "metrics:read"}
ROLES: dict[str, frozenset[str]] = {
    "viewer": _VIEWER,
    "predictor": frozenset({"models:read", "predictions:read", "predictions:write"}),
    "trainer": _VIEWER
    | {"datasets:write", "runs:write", "models:write", "predictions:write", "topics:write"},
    "maintainer": frozenset(SCOPES) - {"keys:admin", "projects:admin", "audit:read"},
    "admin": frozenset(SCOPES),
}

PROJECTS = Listing(
    "Projects",
    {"created_at": Project.created_at, "name": Project.project},
    order=("created_at", "name"),
    identity=Project.id,
)
KEYS = Listing(
    "Keys",
    {"created_at": Key.created_at, "name": Key.name},
    order=("created_at", "name"),
    identity=Key.id,
)


@dataclass(frozen=True)
class NewKey:
    """A key just made: the only time that its secret is to be had."""

    row: Key
    secret: str | None

    def __getattr__(self, name: str) -> Any:
        """Everything but the secret is the row's."""
        return getattr(self.row, name)


class Access:
    """What can be done with projects and keys."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        *,
        environment_admin: str = "",
    ) -> None:
        self._changes = Changes(database, "access")
        self._database = database
        self._ring = ring
        self._environment_admin = environment_admin

    def ensure_admin(self) -> str | None:
        """Make the default project and, on the very first start, one admin key: its text, once."""
        with self._database.exclusive("first-admin-key") as session:
            if session.scalar(select(Project).where(Project.project == DEFAULT_PROJECT)) is None:
                session.add(Project(project=DEFAULT_PROJECT, description="Made at first start"))
            if self._environment_admin or session.scalar(select(func.count(Key.id))):
                return None
            secret = new_key()
            session.add(
                Key(
                    project=DEFAULT_PROJECT,
                    key_id=key_id_of(secret),
                    name="admin",
                    digest=key_digest(secret),
                    scopes=list(SCOPES),
                    admin=True,
                    created_by="first start",
                )
            )
            return secret

    def list_projects(self, call: Call, arguments: Mapping[str, Any]) -> Page[Project]:
        """All projects."""
        with self._database.read() as session:
            return PROJECTS.page(
                session, select(Project), arguments, self._ring, EVERY_PROJECT + call.project
            )

    def get_project(self, name: str) -> Project:
        """One project; raises NotFound."""
        with self._database.read() as session:
            row = session.scalar(select(Project).where(Project.project == name))
        if row is None:
            raise NotFound(f"There is no project {name}")
        return row

    def create_project(self, call: Call, name: str, description: str) -> Project:
        """A new tenant; raises Conflict when the name is taken."""
        with self._changes.begin(call) as change:
            if change.session.scalar(select(Project).where(Project.project == name)):
                raise Conflict(f"There is a project {name} already")
            row = Project(project=name, description=description)
            change.session.add(row)
            change.session.flush()
            change.record("project.created", row.subject, {"name": name})
            change.answer(row)
        return row

    def create_key(
        self,
        call: Call,
        *,
        name: str,
        scopes: frozenset[str],
        project: str | None,
        expires_at: datetime | None,
    ) -> NewKey:
        """A key that may do no more than the caller; raises Forbidden, Invalid."""
        project = project or call.project
        self._refuse_escalation(call, scopes, project)
        if expires_at is not None and expires_at <= utc_now():
            raise Invalid.at("/expires_at", "in_the_past", "The time has passed already")
        secret = new_key()
        with self._changes.begin(call) as change:
            self._refuse_longer_life(change, expires_at)
            if change.session.scalar(select(Project).where(Project.project == project)) is None:
                raise Invalid.at("/project", "unknown_project", f"There is no project {project}")
            row = Key(
                project=project,
                key_id=key_id_of(secret),
                name=name,
                digest=key_digest(secret),
                scopes=sorted(scopes),
                admin="projects:admin" in scopes,
                created_by=call.key_id,
                expires_at=expires_at,
            )
            change.session.add(row)
            change.session.flush()
            change.record("key.created", row.subject, {"name": name, "project": project})
            change.answer(NewKey(row, None))
        return NewKey(row, secret)

    def _refuse_escalation(self, call: Call, scopes: frozenset[str], project: str) -> None:
        beyond = sorted(scopes - call.scopes)
        if beyond:
            raise Forbidden(f"A key can't give what it lacks: {', '.join(beyond)}")
        if project != call.project:
            call.require("projects:admin")

    def _refuse_longer_life(self, change: Change, expires_at: datetime | None) -> None:
        own = change.session.scalar(select(Key).where(Key.key_id == change.call.key_id))
        if own is None or own.expires_at is None:
            return
        if expires_at is None or expires_at > own.expires_at:
            raise Forbidden("A key can't make one that outlives it")

    def list_keys(self, call: Call, arguments: Mapping[str, Any]) -> Page[Key]:
        """The keys of the caller's project, revoked ones too."""
        query = select(Key).where(Key.project == call.project)
        with self._database.read() as session:
            return KEYS.page(session, query, arguments, self._ring, call.project)

    def get_key(self, call: Call, key_id: str) -> Key:
        """One key of the caller's project; raises NotFound."""
        with self._database.read() as session:
            row = session.scalar(
                select(Key).where(Key.project == call.project, Key.key_id == key_id)
            )
        if row is None:
            raise NotFound(f"There is no key {key_id}")
        return row

    def get_record(self, key_id: str) -> Key:
        """What tells a key's bearer from others, of any project; raises NotFound."""
        with self._database.read() as session:
            row = stored_key(session, key_id)
        if row is None:
            raise NotFound(f"There is no key {key_id}")
        return row

    def revoke_key(self, call: Call, key_id: str) -> None:
        """End a key's life; raises Conflict for the last admin key."""
        with self._changes.begin(call) as change:
            row = change.session.scalar(
                select(Key)
                .where(Key.project == call.project, Key.key_id == key_id)
                .with_for_update()
            )
            if row is None:
                raise NotFound(f"There is no key {key_id}")
            change.guard(row)
            if row.revoked_at is not None:
                return
            if row.admin and not self._environment_admin and self._live_admins(change) <= 1:
                raise Conflict("This is the last admin key; make another one first")
            row.revoked_at = utc_now()
            change.record("key.revoked", row.subject, {"name": row.name})

    def _live_admins(self, change: Change) -> int:
        # All admin rows are locked, so that two revocations at once can't each spare the other.
        live = change.session.scalars(
            select(Key)
            .where(
                Key.admin,
                Key.revoked_at.is_(None),
                or_(Key.expires_at.is_(None), Key.expires_at > utc_now()),
            )
            .with_for_update()
        )
        return len(list(live))


def stored_key(session: Session, key_id: str) -> Key | None:
    """The key with an id, of whichever project."""
    return session.scalar(select(Key).where(Key.key_id == key_id))
