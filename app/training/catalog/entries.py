"""One estimator of the catalogue, and a client's specification after it was checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TASKS: Final = (
    "classification",
    "regression",
    "clustering",
    "outlier_detection",
    "decomposition",
)


@dataclass(frozen=True)
class Entry:
    """What the catalogue knows about one estimator.

    ``roles`` tells where it may stand: ``final`` (the model itself), ``step`` (transforms the
    numeric matrix before the model), ``preparation`` (takes the place of the automatic imputer,
    category encoder or text vectoriser; ``prepares`` says which). ``family`` is ``trees`` or
    ``scaled``. ``parameters`` is the JSON Schema of what a client may set, with defaults; ``fixed``
    is what the server sets beside it. ``max_rows`` bounds the training rows, if anything does.
    """

    name: str
    summary: str
    documentation: str
    module: str
    tasks: tuple[str, ...]
    roles: tuple[str, ...]
    family: str
    random_state: bool
    parameters: Mapping[str, Any]
    prepares: str | None = None
    needs_target: bool = False
    max_rows: int | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    our_defaults: tuple[str, ...] = ()

    @property
    def properties(self) -> Mapping[str, Any]:
        """The schema of each parameter, by its name."""
        properties: Mapping[str, Any] = self.parameters["properties"]
        return properties

    @property
    def defaults(self) -> dict[str, Any]:
        """What each optional parameter is if a client doesn't set it."""
        known = self.properties.items()
        return {name: schema["default"] for name, schema in known if "default" in schema}

    @property
    def is_search(self) -> bool:
        """Whether it tries candidates of another estimator; only the outermost one may."""
        return any("x-grid" in schema for schema in self.properties.values())

    def as_dict(self) -> dict[str, Any]:
        """The form that goes over the wire."""
        told = {
            "name": self.name,
            "tasks": list(self.tasks),
            "roles": list(self.roles),
            "summary": self.summary,
            "documentation": self.documentation,
            "max_rows": self.max_rows,
            "our_defaults": list(self.our_defaults),
        }
        return {**told, "parameters": dict(self.parameters)}


@dataclass(frozen=True)
class NormalisedSpec:
    """A specification that may be trusted: every name and value stands in the catalogue.

    ``document`` is ``"auto"``, ``{name, params}`` or ``{steps: [{name, params}]}``, with the
    defaults of ours filled in; it survives JSON, and checking it again gives the same. ``tasks``
    is what it can do, ``names`` lists the estimators it is made of, outermost first.
    """

    document: str | Mapping[str, Any]
    tasks: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def is_auto(self) -> bool:
        """Whether the server chooses."""
        return self.document == "auto"

    @property
    def steps(self) -> tuple[Mapping[str, Any], ...]:
        """All ``{name, params}`` in order, the model last; empty for auto."""
        if isinstance(self.document, str):
            return ()
        return tuple(self.document.get("steps", (self.document,)))
