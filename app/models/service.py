"""Models: what can be done with them, and the parts that do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from app.kernel.artifacts.store import ArtifactStore
from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import Conflict
from app.kernel.http.pagination import Listing, Page
from app.kernel.signing import KeyRing
from app.kernel.sql import Database
from app.models.aliases import Aliases
from app.models.artifacts import Artifacts
from app.models.collection import Collector
from app.models.imports import Imports
from app.models.lookup import find_model, insert_model, refuse_removal
from app.models.ports import Jobs, Referrer
from app.models.removal import Plan, Removals
from app.models.tables import DEFAULT_ALIAS, Model, Version
from app.models.versions import Versions

MODELS = Listing(
    "Models",
    {
        "name": Model.name,
        "newest_version": Model.newest_version,
        "created_at": Model.created_at,
        "updated_at": Model.updated_at,
    },
    order=("created_at", "updated_at", "name"),
    identity=Model.id,
)


@dataclass(frozen=True)
class ModelState:
    """What those who serve a model must know of it: its versions and where its names lead."""

    model: Model
    versions: list[Version]

    @property
    def default_alias_version(self) -> int | None:
        """Where the default alias points."""
        return self.model.aliases.get(DEFAULT_ALIAS)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the model's."""
        return getattr(self.model, name)


class Models:
    """The service: models as names, and ``versions``, ``imports``, ``artifacts``, ``aliases`` and
    ``collector`` for what lies below them.

    ``most_importing`` is how many imports of a project may wait or run at once.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        store: ArtifactStore,
        *,
        jobs: Jobs,
        referrers: Sequence[Referrer],
        most_importing: int = 20,
    ) -> None:
        self._changes = Changes(database, "models")
        self._database = database
        self._ring = ring
        self.artifacts = Artifacts(self._changes, ring, store)
        self.versions = Versions(self._changes, ring, store)
        self.aliases = Aliases(self._changes, ring)
        self.imports = Imports(self._changes, ring, store, jobs, most_importing=most_importing)
        self.collector = Collector(self._changes, ring, store, self.artifacts)
        self._removals = Removals(self._changes, referrers)

    def page(self, call: Call, arguments: Mapping[str, Any]) -> Page[Model]:
        """The models of the caller's project."""
        query = select(Model).where(Model.project == call.project)
        with self._database.read() as session:
            return MODELS.page(session, query, arguments, self._ring, call.project)

    def get(self, call: Call, name: str) -> Model:
        """A model; raises NotFound."""
        with self._database.read() as session:
            return find_model(session, call, name)

    def state(self, call: Call, name: str) -> ModelState:
        """A model with the states of all its versions; raises NotFound."""
        with self._database.read() as session:
            model = find_model(session, call, name)
            query = select(Version).where(Version.model_id == model.id).order_by(Version.number)
            return ModelState(model, list(session.scalars(query)))

    def create(self, call: Call, name: str, **fields: Any) -> Model:
        """A model without versions; raises Conflict when the name is taken."""
        with self._changes.begin(call) as change:
            query = select(Model.id).where(Model.project == call.project, Model.name == name)
            if change.session.scalar(query) is not None:
                raise Conflict(f"There is a model {name} already")
            row = insert_model(change, name, **fields)
            change.session.refresh(row, ["alias_rows"])
            change.record("model.created", row.subject, {"model": name})
            change.answer(row)
        return row

    def update(self, call: Call, name: str, changes: Mapping[str, Any]) -> Model:
        """Change what is given of ``description``, ``tags`` and ``retention``; NotFound."""
        with self._changes.begin(call) as change:
            row = find_model(change.session, call, name, lock=True)
            change.guard(row)
            refuse_removal(row)
            for field, value in changes.items():
                setattr(row, field, value)
            change.record("model.updated", row.subject, {"model": name, "retention": row.retention})
        return row

    def plan_removal(self, call: Call, name: str, version: int | None = None) -> Plan:
        """What ``remove`` would take away, and what stands in its way."""
        if version is None:
            return self._removals.plan_model(call, name)
        return self._removals.plan_version(call, name, version)

    def remove(self, call: Call, name: str, version: int | None = None) -> None:
        """Take away a model with all it has, or one version; rows first, then their bytes.

        Raises NotFound, StillReferred, Conflict, Unavailable.
        """
        if version is None:
            self._removals.remove_model(call, name)
        else:
            self._removals.remove_version(call, name, version)
        self.collector.clear()
