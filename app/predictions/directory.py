"""Which version a model reference means: a read model of the models service.

It is filled on demand, kept true by a follower of the models service's events, and remembered in a
table, so that what was known is served also while the models service is away.
"""

import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from app.kernel.artifacts.mac import SecretRetired
from app.kernel.artifacts.stored import ArtifactCorrupt
from app.kernel.auth import Call
from app.kernel.errors import Invalid, NotFound, ServiceError, StorageFull, Unavailable
from app.kernel.sql import Database
from app.predictions.ports import Models
from app.predictions.tables import KnownModel

DEFAULT_ALIAS = "champion"
READY, CORRUPT = "ready", "corrupt"
_REFERENCE = re.compile(
    r"(?P<model>[a-z0-9][a-z0-9._-]{0,62})(?:@(?P<alias>[a-z0-9][a-z0-9._-]{0,62})|/(?P<version>[1-9][0-9]{0,8}))?"
)
Place = tuple[str, str]
"""A project, and a model of it."""
Used = TypeVar("Used")
log = structlog.get_logger("directory")


@dataclass(frozen=True)
class Reference:
    """What a client calls a model: by name, by alias or by version."""

    model: str
    alias: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """``penguins``, ``penguins@champion`` or ``penguins/3``; raises Invalid."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise Invalid.at(
                "/model", "invalid", "A model reads `name`, `name@alias` or `name/version`"
            )
        version = found["version"]
        return cls(found["model"], found["alias"], int(version) if version else None)


@dataclass
class Known:
    """What is known of one model; locations are immutable and kept once asked for.

    ``turn`` is greater the later the models service was asked.
    """

    state: Mapping[str, Any]
    locations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    turn: int = 0
    _meant: dict[tuple[str | None, int | None], int] = field(default_factory=dict)

    def keeps(self, version: str, former: "Known") -> bool:
        """Whether a version of what was known before is still one of this model's."""
        return self.state["id"] == former.state["id"] and any(
            str(item["version"]) == version for item in self.state["versions"]
        )

    def version_of(self, reference: Reference) -> int:
        """The version that a reference means; raises NotFound, ArtifactCorrupt."""
        meant = self._meant.get((reference.alias, reference.version))
        if meant is None:
            meant = self._find(reference)
            self._meant[reference.alias, reference.version] = meant
        return meant

    def _find(self, reference: Reference) -> int:
        states = {item["version"]: item["state"] for item in self.state["versions"]}
        number = self._number_of(reference, [n for n in states if states[n] == READY])
        if states.get(number) == CORRUPT:
            raise ArtifactCorrupt(f"{reference.model} version {number} is out of service")
        if states.get(number) != READY:
            raise NotFound(f"{reference.model} has no ready version {number}")
        return number

    @property
    def newest(self) -> int | None:
        """The newest ready version."""
        ready = [item["version"] for item in self.state["versions"] if item["state"] == READY]
        return max(ready, default=None)

    def is_corrupt(self, version: int) -> bool:
        """Whether the models service has found wrong bytes of a version."""
        return any(
            item["version"] == version and item["state"] == CORRUPT
            for item in self.state["versions"]
        )

    def _number_of(self, reference: Reference, ready: Sequence[int]) -> int:
        if reference.version is not None:
            return reference.version
        aliases = self.state["aliases"]
        if reference.alias is not None:
            if reference.alias not in aliases:
                raise NotFound(f"{reference.model} has no alias {reference.alias}")
            return int(aliases[reference.alias])
        if DEFAULT_ALIAS in aliases:
            return int(aliases[DEFAULT_ALIAS])
        if not ready and any(item["state"] == CORRUPT for item in self.state["versions"]):
            raise ArtifactCorrupt(f"{reference.model} has only versions that are out of service")
        if not ready:
            raise NotFound(f"{reference.model} has no ready version yet")
        return max(ready)


@dataclass(eq=False)
class _Question:
    """The models service is being asked; ``outdated``: something has happened to the model."""

    place: Place
    outdated: bool = False


class Directory:
    """Resolves references; thread-safe."""

    def __init__(self, database: Database, models: Models) -> None:
        self._database = database
        self._models = models
        self._known: dict[Place, Known] = {}
        self._questions: set[_Question] = set()
        self._turns = itertools.count(1)
        self._installing = threading.Lock()
        self._reporting = threading.Lock()

    def locate(self, call: Call, reference: Reference) -> Mapping[str, Any]:
        """The location of the version that a reference means.

        Raises NotFound, Unavailable, and ArtifactCorrupt for a version that is known to be.
        """
        place = (call.project, reference.model)
        known = self._known.get(place) or self._learn(call, reference.model)
        try:
            version = known.version_of(reference)
        except (NotFound, ArtifactCorrupt):
            # It may be so new, or in order again so lately, that the event has not come yet.
            known = self._learn(call, reference.model)
            version = known.version_of(reference)
        return known.locations.get(str(version)) or self.ask_location(place, known, version, call)

    def ask_location(
        self, place: Place, known: Known, version: int, call: Call
    ) -> Mapping[str, Any]:
        """Where a version of a model lies, from now on known; raises NotFound, Unavailable."""
        with call.elsewhere():
            location = self._models.location(call, place[1], version)
        known.locations[str(version)] = location
        self._remember(place, known)
        return location

    def use(
        self, call: Call, reference: Reference, act: Callable[[Mapping[str, Any]], Used]
    ) -> Used:
        """What ``act`` makes of the location of the version that a reference means.

        A location that is out of date (signed with a secret that has been retired since, or of
        bytes that lie elsewhere by now) is asked for anew, once. Of wrong bytes the models service
        is told. Raises as ``locate`` and ``act`` do.
        """
        location = self.locate(call, reference)
        try:
            return act(location)
        except SecretRetired as error:
            fault: ServiceError = error
        except ArtifactCorrupt as error:
            with call.elsewhere():
                self._report(call, location, error)
            fault = error
        fresh = self._locate_anew(call, reference, location)
        if fresh == location:
            raise fault
        return act(fresh)

    def _report(self, call: Call, location: Mapping[str, Any], fault: ArtifactCorrupt) -> None:
        """Have the models service look at a version's bytes; raises the fault if it is one."""
        model, version = location["model"], location["version"]
        with self._reporting:
            known = self._known.get((call.project, model))
            if known is not None and known.is_corrupt(version):
                raise fault
            try:
                state = self._models.verify(call, model, version)
            except NotFound:
                # Deleted, and its event has not come yet.
                return
            except ServiceError as error:
                log.warning("not_verified", subject=location["subject"], error=error.detail)
                raise fault from error
            if state != READY:
                self._learn(call, model)
                raise fault

    def _locate_anew(
        self, call: Call, reference: Reference, old: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        known = self._learn(call, reference.model)
        known.locations.pop(str(old["version"]), None)
        return self.locate(call, reference)

    def _learn(self, call: Call, model: str) -> Known:
        with call.elsewhere():
            return self._learn_elsewhere(call, model)

    def _learn_elsewhere(self, call: Call, model: str) -> Known:
        place = (call.project, model)
        question = _Question(place)
        with self._installing:
            self._questions.add(question)
        try:
            known = self.ask_state(call, model)
            with self._installing:
                in_force = None if question.outdated else self._enforce(place, known)
        except Unavailable:
            remembered = self._recall(place)
            if remembered is None:
                raise
            log.warning("served_from_memory", model=model, project=call.project)
            return remembered
        finally:
            with self._installing:
                self._questions.discard(question)
        if in_force is None:
            return self._learn(call, model)
        self._remember(place, known)
        return in_force

    def known_of(self, place: Place) -> Known | None:
        """What is in force for a model that somebody has asked for."""
        return self._known.get(place)

    def places(self) -> list[Place]:
        """The models that somebody has asked for."""
        return list(self._known)

    def ask_state(self, call: Call, model: str) -> Known:
        """What the models service says now; it's in force when it is installed.

        Raises NotFound, Unavailable.
        """
        turn = next(self._turns)
        known = Known(self._models.state(call, model), turn=turn)
        before = self._known.get((call.project, model))
        if before is not None:
            _inherit(known, before)
        return known

    def outdate(self, place: Place) -> None:
        """Something has happened to a model: whoever is asking about it now must ask again."""
        with self._installing:
            for question in self._questions:
                question.outdated = question.outdated or question.place == place

    def install(self, place: Place, known: Known) -> Known:
        """Put in force what was asked for, unless something later is already; what is then."""
        with self._installing:
            in_force = self._enforce(place, known)
        self._remember(place, known)
        return in_force

    def _enforce(self, place: Place, known: Known) -> Known:
        before = self._known.get(place)
        if before is not None:
            if before.turn >= known.turn:
                return before
            # Of those that were asked for since.
            _inherit(known, before)
        self._known[place] = known
        return known

    def forget(self, place: Place) -> None:
        """A model is no more."""
        self._known.pop(place, None)
        with self._database.write() as session:
            row = session.get(KnownModel, place)
            if row is not None:
                session.delete(row)

    def _remember(self, place: Place, known: Known) -> None:
        """Write down what is in force for the day when the models service is away; that can wait
        for room."""
        if self._known.get(place) is not known:
            return
        project, model = place
        row = KnownModel(
            project=project,
            model=model,
            state=dict(known.state),
            locations=dict(known.locations),
        )
        try:
            with self._database.write() as session:
                session.merge(row)
        except (Unavailable, StorageFull) as error:
            # It is only remembered for when the models service is away.
            log.warning("not_remembered", model=model, project=project, error=error.detail)

    def _recall(self, place: Place) -> Known | None:
        with self._database.read() as session:
            row = session.get(KnownModel, place)
        return None if row is None else Known(row.state, dict(row.locations))

    def retention(self, project: str, model: str) -> Mapping[str, Any]:
        """How long a model's predictions are kept, as the models service says now.

        What is remembered may be older than a change of mind: it must not delete anything. Raises
        Unavailable; a model that is no more keeps all.
        """
        call = Call(project, "retention", frozenset(), "retention")
        try:
            return self._models.state(call, model)["retention"] or {}
        except NotFound:
            return {}


def _inherit(known: Known, before: Known) -> None:
    """Take over the locations of the versions that are still there."""
    for version, location in list(before.locations.items()):
        if known.keeps(version, before):
            known.locations.setdefault(version, location)
