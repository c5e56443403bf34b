"""Reads a client's estimator specification strictly, whatever it holds.

The grammar: ``"auto"``, ``{name, params}`` or ``{steps: [{name, params}, ...]}``. Where a parameter
is itself an estimator, the same grammar applies, without ``auto``, to a bounded depth.
"""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.kernel.errors import FieldError, Invalid
from app.training.catalog.entries import TASKS, Entry, NormalisedSpec
from app.training.catalog.grid import candidates, grid_problems
from app.training.catalog.values import accepts, problems, shown

MOST_NODES: Final = 50
DEEPEST: Final = 6
MOST_STEPS: Final = 20
MOST_FITS: Final = 100_000
"""How many members (trees, folds, candidates) one fit may consist of, multiplied out."""
MOST_ERRORS: Final = 20
MOST_VALUES: Final = 20_000
"""How many values a specification may hold: each that is refused costs a search for its like."""
DEFAULT_FOLDS: Final = 5
MANY_STEPS: Final = 100
"""How often an elimination by whole numbers of features is reckoned to fit."""


def close_names(name: object, known: Iterable[str]) -> list[str]:
    """Up to three names that may have been meant."""
    if not isinstance(name, str):
        return []
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name[:64].lower(), lowered, n=3, cutoff=0.6)
    return [lowered[candidate] for candidate in near]


@dataclass(frozen=True)
class Place:
    """Where a specification stands, and so what may stand there."""

    depth: int = 1
    roles: tuple[str, ...] = ("final",)
    tasks: tuple[str, ...] = TASKS
    names: Collection[str] | None = None


@dataclass(frozen=True)
class Reading:
    """What was read: in its canonical form, what it can do, and how many fits it stands for."""

    document: dict[str, Any]
    tasks: tuple[str, ...]
    fits: float = 1


NOTHING: Final = Reading({}, ())


class Refusals:
    """Gathers what is wrong, in the order in which it was found."""

    def __init__(self, names: Collection[str]) -> None:
        self.found: list[FieldError] = []
        self._names = names

    def add(self, pointer: str, code: str, detail: str, allowed: Any = None) -> Reading:
        """One more reason; gives the reading that stands for nothing."""
        self.found.append(FieldError(pointer, code, detail, allowed))
        return NOTHING

    def unknown_estimator(self, name: Any, pointer: str, reason: str) -> Reading:
        """No estimator of that name; tells the names that may have been meant."""
        near = close_names(name, self._names) if len(self.found) < MOST_ERRORS else []
        allowed = {"did_you_mean": near} if near else None
        return self.add(pointer, "unknown_estimator", f"{reason}; got {shown(name)}", allowed)

    def unknown_fields(self, spec: Mapping[str, Any], known: set[str], pointer: str) -> None:
        """Every field that is not known here."""
        for key in sorted(set(spec) - known)[:MOST_ERRORS]:
            detail = f"{shown(key)} is not known here"
            self.add(f"{pointer}/{_escaped(key)}", "unknown_field", detail, sorted(known))

    def as_invalid(self) -> Invalid:
        """All of it as one error."""
        count = len(self.found)
        told = "1 problem" if count == 1 else f"{count} problems"
        near = [
            name
            for error in self.found
            if error.code == "unknown_estimator" and error.allowed
            for name in error.allowed["did_you_mean"]
        ]
        extra = {"did_you_mean": near[:3]} if near else None
        detail = f"{told} in the estimator specification"
        return Invalid(detail, errors=self.found[:MOST_ERRORS], extra=extra)


class SpecReader:
    """Reads one specification and gathers everything that is wrong with it."""

    def __init__(self, entries: Mapping[str, Entry], server_sets: Collection[str]) -> None:
        self._entries = entries
        self._server_sets = server_sets
        self._refusals = Refusals(entries)
        self._names: list[str] = []

    def read(self, spec: Any, pointer: str) -> NormalisedSpec:
        """The checked specification; ``Invalid`` if anything is wrong."""
        if spec == "auto" and isinstance(spec, str):
            return NormalisedSpec("auto", TASKS)
        if _is_larger(spec, MOST_VALUES):
            allowed = {"maximum": MOST_VALUES}
            detail = f"holds more than {MOST_VALUES:,} values"
            self._refusals.add(pointer, "limit_exceeded", detail, allowed)
            raise self._refusals.as_invalid()
        reading = self._spec(spec, pointer, Place())
        if not self._refusals.found and reading.fits > MOST_FITS:
            detail = f"stands for {reading.fits:,.0f} fits of its members; at most {MOST_FITS:,}"
            self._refusals.add(pointer, "limit_exceeded", detail, {"maximum": MOST_FITS})
        if self._refusals.found:
            raise self._refusals.as_invalid()
        return NormalisedSpec(reading.document, reading.tasks, tuple(self._names))

    def _spec(self, spec: Any, pointer: str, place: Place) -> Reading:
        if isinstance(spec, str):
            return self._refusals.unknown_estimator(
                spec, pointer, 'an estimator is "auto" or an object with a name'
            )
        if not isinstance(spec, dict):
            detail = f'must be "auto", {{name, params}} or {{steps}}; got {shown(spec)}'
            return self._refusals.add(pointer, "type", detail)
        if place.depth > DEEPEST:
            return self._refusals.add(pointer, "too_deep", f"nested deeper than {DEEPEST} levels")
        if "steps" in spec and "name" not in spec:
            return self._pipeline(spec, pointer, place)
        return self._named(spec, pointer, place)

    def _pipeline(self, spec: dict[str, Any], pointer: str, place: Place) -> Reading:
        self._refusals.unknown_fields(spec, {"steps"}, pointer)
        steps = spec["steps"]
        if not isinstance(steps, list) or not 1 <= len(steps) <= MOST_STEPS:
            detail = f"must be a list of 1 to {MOST_STEPS} steps, the model last"
            return self._refusals.add(f"{pointer}/steps", "type", detail)
        if place.names is not None:
            return self._refusals.add(pointer, "not_here", "a pipeline cannot stand here")
        before = ("preparation", "step") if place.depth == 1 else ("step",)
        read = [
            self._named(step, f"{pointer}/steps/{index}", Place(place.depth + 1, before))
            for index, step in enumerate(steps[:-1])
        ]
        last = f"{pointer}/steps/{len(steps) - 1}"
        final = self._named(steps[-1], last, Place(place.depth + 1, tasks=place.tasks))
        if not self._refusals.found:
            self._steps_fit(read, final, pointer)
        documents = [reading.document for reading in (*read, final)]
        fits = sum(reading.fits for reading in read) + final.fits
        return Reading({"steps": documents}, final.tasks, fits)

    def _steps_fit(self, read: list[Reading], final: Reading, pointer: str) -> None:
        """What holds between steps: preparations first, one of a kind, and targets where needed."""
        prepared: list[str] = []
        entries = [self._entries[reading.document["name"]] for reading in read]
        for index, (entry, reading) in enumerate(zip(entries, read, strict=True)):
            at = f"{pointer}/steps/{index}"
            if entry.prepares is not None:
                if entry.prepares in prepared:
                    detail = f"another step already prepares the {entry.prepares}"
                    self._refusals.add(at, "conflict", detail)
                if len(prepared) < index:
                    detail = "a step that prepares columns stands before all other steps"
                    self._refusals.add(at, "conflict", detail)
                prepared.append(entry.prepares)
            if entry.needs_target and not set(final.tasks) & {"classification", "regression"}:
                self._refusals.add(at, "conflict", f"{entry.name} needs a target")
            elif reading.tasks and not set(reading.tasks) & set(final.tasks):
                detail = f"is for {' or '.join(reading.tasks)}; the model is not"
                self._refusals.add(at, "conflict", detail)

    def _named(self, spec: Any, pointer: str, place: Place) -> Reading:
        if not isinstance(spec, dict) or "name" not in spec:
            detail = f"must be an object with a name; got {shown(spec)}"
            return self._refusals.add(pointer, "type", detail)
        self._refusals.unknown_fields(spec, {"name", "params"}, pointer)
        name = spec["name"]
        entry = self._entries.get(name) if isinstance(name, str) else None
        if entry is None:
            return self._refusals.unknown_estimator(name, f"{pointer}/name", "no such estimator")
        self._names.append(entry.name)
        if len(self._names) > MOST_NODES:
            return self._refusals.add(pointer, "too_many", f"more than {MOST_NODES} estimators")
        if not self._may_stand(entry, pointer, place):
            return NOTHING
        params = spec.get("params", {})
        if not isinstance(params, dict):
            detail = f"must be an object of parameters; got {shown(params)}"
            return self._refusals.add(f"{pointer}/params", "type", detail)
        return self._parameters(entry, params, f"{pointer}/params", place)

    def _may_stand(self, entry: Entry, pointer: str, place: Place) -> bool:
        if not set(entry.roles) & set(place.roles):
            roles = {"final": "the model", "step": "a step before the model"}
            wanted = " or ".join(
                roles.get(role, "a preparation of columns") for role in place.roles
            )
            self._refusals.add(
                f"{pointer}/name", "not_here", f"{entry.name} cannot be {wanted} here"
            )
        elif "final" in place.roles and not set(entry.tasks) & set(place.tasks):
            detail = f"{entry.name} is not for {' or '.join(place.tasks)}"
            self._refusals.add(f"{pointer}/name", "not_here", detail, {"tasks": list(place.tasks)})
        elif place.names is not None and entry.name not in place.names:
            detail = f"{entry.name} tells no weights of its features"
            self._refusals.add(f"{pointer}/name", "not_here", detail, {"enum": sorted(place.names)})
        elif entry.is_search and place.depth > 1:
            self._refusals.add(f"{pointer}/name", "not_here", "a search is the outermost estimator")
        else:
            return True
        return False

    def _parameters(
        self, entry: Entry, params: dict[str, Any], pointer: str, place: Place
    ) -> Reading:
        taken: dict[str, Any] = {name: entry.defaults[name] for name in entry.our_defaults}
        inner: list[tuple[str, Reading]] = []
        for key, value in params.items():
            at = f"{pointer}/{_escaped(key)}"
            schema = entry.properties.get(key)
            if schema is None:
                self._not_offered(entry, key, at)
            elif (nested := _nested(schema)) is not None and value is not None:
                taken[key] = self._nested_specs(key, nested, value, at, place, inner)
            else:
                self._refusals.found += problems(schema, value, at)
                taken[key] = value
        for key in entry.parameters.get("required", ()):
            if key not in params:
                self._refusals.add(f"{pointer}/{key}", "missing", f"{entry.name} needs {key}")
        if not self._refusals.found:
            self._across(entry, taken, pointer)
        tasks = entry.tasks if "final" in place.roles else ()
        if inner and (entry.is_search or "final" not in place.roles):
            tasks = inner[0][1].tasks
        document = {"name": entry.name, "params": taken}
        if self._refusals.found:
            return Reading(document, tasks)
        return Reading(document, tasks, _fits(taken, entry, inner))

    def _nested_specs(
        self,
        key: str,
        nested: Mapping[str, Any],
        value: Any,
        pointer: str,
        place: Place,
        inner: list[tuple[str, Reading]],
    ) -> Any:
        names = nested.get("x-names")
        below = Place(place.depth + 1, tasks=tuple(nested["x-spec"]), names=names)
        if nested.get("many"):
            if not isinstance(value, list) or not 2 <= len(value) <= 10:
                detail = f"must be a list of 2 to 10 estimators; got {shown(value)}"
                return self._refusals.add(pointer, "wrong_length", detail).document
            read = [self._spec(item, f"{pointer}/{i}", below) for i, item in enumerate(value)]
            inner += [(key, reading) for reading in read]
            return [reading.document for reading in read]
        reading = self._spec(value, pointer, below)
        inner.append((key, reading))
        return reading.document

    def _not_offered(self, entry: Entry, key: str, pointer: str) -> None:
        told = shown(key)
        if "__" in key:
            detail = f"{told}: parameters of nested estimators are set in their own params"
            self._refusals.add(pointer, "nested_key", detail)
        elif key in self._server_sets:
            self._refusals.add(pointer, "not_allowed", f"{told} is set by the server")
        else:
            told_enough = len(self._refusals.found) >= MOST_ERRORS
            near = [] if told_enough else close_names(key, entry.properties)
            detail = f"{entry.name} has no parameter {told} that can be set"
            self._refusals.add(pointer, "unknown_parameter", detail, {"did_you_mean": near})

    def _across(self, entry: Entry, taken: dict[str, Any], pointer: str) -> None:
        """What holds between parameters, those not given counting with their defaults."""
        given = {**entry.defaults, **taken}
        for condition in entry.parameters.get("allOf", ()):
            if _holds(condition["if"], given) and not _holds(condition["then"], given):
                self._refusals.add(pointer, "conflict", condition["x-detail"])
        weights = taken.get("weights")
        if isinstance(weights, list) and len(weights) != len(taken["estimators"]):
            self._refusals.add(
                f"{pointer}/weights", "wrong_length", "needs one weight per estimator"
            )
        if entry.is_search:
            searched = self._entries.get(taken["estimator"].get("name", ""))
            self._refusals.found += grid_problems(entry, searched, taken, pointer)


def _is_larger(value: Any, most: int) -> bool:
    """Whether a JSON value holds more values than that, itself and names included."""
    waiting = [value]
    while waiting and most >= 0:
        found = waiting.pop()
        most -= 1
        if isinstance(found, dict):
            waiting += found.values()
            most -= len(found)
        elif isinstance(found, list):
            waiting += found
    return most < 0


def _nested(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of a parameter's schema that stands for estimators, if it does."""
    for part in schema.get("anyOf", (schema,)):
        if "x-spec" in part:
            return dict(part)
        if "x-spec" in part.get("items", {}):
            return {**part["items"], "many": True}
    return None


def _holds(part: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    named = part["properties"].items()
    return all(key in given and accepts(schema, given[key]) for key, schema in named)


def _fits(taken: dict[str, Any], entry: Entry, inner: list[tuple[str, Reading]]) -> float:
    """How many members it multiplies out to, including those of nested estimators."""
    given = {**entry.defaults, **taken}
    own = 1.0
    for key in ("n_estimators", "max_iter"):
        if key in given and (key == "n_estimators" or entry.name.startswith("HistGradient")):
            own = float(given[key] if isinstance(given[key], int) else 1)
    if not inner:
        return own
    within = sum(reading.fits for _, reading in inner)
    if entry.is_search:
        own = candidates(given)
    elif entry.name == "RFE":
        own = math.ceil(1 / given["step"]) if given["step"] < 1 else MANY_STEPS
    rounds = (given["cv"] or DEFAULT_FOLDS) + 1 if "cv" in given else 1
    return own * within * rounds


def _escaped(key: str) -> str:
    return key[:64].replace("~", "~0").replace("/", "~1")
