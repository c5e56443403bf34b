"""Writes ``catalogue.json``: scikit-learn's parameter constraints, narrowed by our reviews.

Run ``python -m app.training.catalog.build`` after a change of a review or of scikit-learn; a test
compares the file with what this module makes. This is the only module that reads scikit-learn's
``_parameter_constraints``, a private table that is the best account there is of its parameters.
"""

import inspect
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import sklearn
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.utils import all_estimators
from sklearn.utils._param_validation import Interval, Options, RealNotInt, StrOptions

from app.training.catalog.rules import (
    CAPS,
    LEFT_OUT,
    POSITIVE_TOL,
    SERVER_SETS,
    Reviewed,
    Schema,
    either,
    integer,
)
from app.training.catalog.steps import EXPANSIONS, PREPARATIONS, SCALERS, SELECTORS
from app.training.catalog.supervised import CLASSIFIERS, COMBINERS, REGRESSORS
from app.training.catalog.unsupervised import CLUSTERERS, DECOMPOSITIONS, OUTLIER_DETECTORS
from app.training.catalog.values import accepts

REVIEWED: Final[Mapping[str, Reviewed]] = {
    **CLASSIFIERS,
    **REGRESSORS,
    **COMBINERS,
    **CLUSTERERS,
    **OUTLIER_DETECTORS,
    **DECOMPOSITIONS,
    **PREPARATIONS,
    **SCALERS,
    **EXPANSIONS,
    **SELECTORS,
}

LARGEST_INTEGER: Final = 1_000_000
LARGEST_NUMBER: Final = 1e12
SENTENCE_END: Final = re.compile(r"(?<!i\.e)(?<!e\.g)(?<!a\.k\.a)(?<=[^.\d])\.\s")
REFUSED_OPTIONS: Final = frozenset({"precomputed", "custom", "prefit", "deprecated", "warn"})


def build() -> dict[str, Any]:
    """The whole catalogue, as it stands in the file."""
    classes: dict[str, type] = dict(all_estimators())
    more = (CountVectorizer, TfidfVectorizer, GridSearchCV, RandomizedSearchCV)
    classes |= {cls.__name__: cls for cls in more}
    return {
        "format": 1,
        "scikit_learn": ".".join(sklearn.__version__.split(".")[:2]),
        "server_sets": sorted(SERVER_SETS),
        "estimators": [_entry(classes[name], REVIEWED[name]) for name in sorted(REVIEWED)],
    }


def render(catalogue: Mapping[str, Any]) -> str:
    """The catalogue as text with one parameter a line, so that a change reads well in a diff."""
    head = {key: value for key, value in catalogue.items() if key != "estimators"}
    entries = ",\n".join(_render_entry(entry) for entry in catalogue["estimators"])
    fields = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    return f'{{\n{fields} "estimators": [\n{entries}\n ]\n}}\n'


def _render_entry(entry: Mapping[str, Any]) -> str:
    parameters = entry["parameters"]
    properties = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(schema, ensure_ascii=False)}"
        for name, schema in parameters["properties"].items()
    )
    rest = {**entry, "parameters": {**parameters, "properties": "@"}}
    text = json.dumps(rest, ensure_ascii=False)
    return "  " + text.replace('"properties": "@"', f'"properties": {{\n{properties}}}')


def _entry(cls: type, reviewed: Reviewed) -> dict[str, Any]:
    documented = _documented_parameters(cls)
    properties: dict[str, Schema] = {}
    required = []
    for name, parameter in inspect.signature(cls).parameters.items():
        schema = _offered(cls, name, reviewed)
        if schema is None:
            continue
        if name in documented:
            schema = {**schema, "description": documented[name]}
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
            properties[name] = schema
            continue
        default = reviewed.defaults.get(name, _plain(parameter.default))
        if not accepts(schema, default):
            raise ValueError(f"{cls.__name__}.{name}: the default {default!r} is not offered")
        properties[name] = {**schema, "default": default}
    return {
        **_description(cls, reviewed),
        "parameters": _parameters(properties, required, reviewed.conditions),
    }


def _description(cls: type, reviewed: Reviewed) -> dict[str, Any]:
    module = cls.__module__.split("._")[0]
    name = cls.__name__
    first = (inspect.getdoc(cls) or "").split("\n\n")[0]
    entry: dict[str, Any] = {
        "name": name,
        "summary": _without_markup(first),
        "documentation": f"https://scikit-learn.org/1.9/modules/generated/{module}.{name}.html",
        "module": module,
        "tasks": list(reviewed.tasks),
        "roles": list(reviewed.roles),
        "family": reviewed.family,
        "random_state": _takes_random_state(cls),
    }
    optional = {
        "prepares": reviewed.prepares,
        "needs_target": reviewed.needs_target,
        "max_rows": reviewed.max_rows,
        "fixed": dict(reviewed.fixed),
        "our_defaults": sorted(reviewed.defaults),
    }
    return entry | {key: value for key, value in optional.items() if value}


def _takes_random_state(cls: type) -> bool:
    parameter = inspect.signature(cls).parameters.get("random_state")
    return parameter is not None and parameter.default != "deprecated"


def _parameters(
    properties: Mapping[str, Schema], required: list[str], conditions: Iterable[Schema]
) -> Schema:
    schema: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    rules = [_with_defaults(rule, properties) for rule in conditions]
    return {**schema, "allOf": rules} if rules else schema


def _with_defaults(rule: Schema, properties: Mapping[str, Schema]) -> Schema:
    """The rule as JSON Schema sees it, which knows nothing of defaults: what must be spelt out."""

    def must_be_given(part: Schema) -> Schema:
        named = part["properties"]
        given = [key for key in named if not accepts(named[key], properties[key].get("default"))]
        return {**part, "required": given} if given else part

    return {**rule, "if": must_be_given(rule["if"]), "then": must_be_given(rule["then"])}


def _offered(cls: type, name: str, reviewed: Reviewed) -> Schema | None:
    if name in reviewed.params:
        return reviewed.params[name]
    if name in SERVER_SETS or name in LEFT_OUT or name in reviewed.fixed:
        return None
    if name == "tol":
        return POSITIVE_TOL
    members = [_member(name, part) for part in cls._parameter_constraints[name]]  # type: ignore[attr-defined]
    known = [member for member in members if member is not None]
    if not known or known == [{"type": "null"}]:
        return None
    return _joined(known)


def _member(name: str, constraint: Any) -> Schema | None:
    """One of the alternatives that scikit-learn accepts, None if JSON cannot express it."""
    if constraint is None:
        return {"type": "null"}
    if isinstance(constraint, str):
        return {"type": "boolean"} if constraint == "boolean" else None
    if isinstance(constraint, Interval):
        return _interval(name, constraint)
    if isinstance(constraint, StrOptions):
        return {"enum": sorted(constraint.options - REFUSED_OPTIONS - constraint.deprecated)}
    if isinstance(constraint, Options) and constraint.type is bool:
        return {"enum": sorted(constraint.options)}
    return None


def _interval(name: str, interval: Interval) -> Schema:
    low, high = interval.left, interval.right
    if interval.type is not RealNotInt and not issubclass(float, interval.type):
        return _integers(name, interval)
    schema: Schema = {"type": "number"}
    if low is None or math.isinf(low):
        schema["minimum"] = -LARGEST_NUMBER
    else:
        closed = interval.closed in {"left", "both"}
        schema["minimum" if closed else "exclusiveMinimum"] = low
    if high is None or math.isinf(high):
        schema |= {"maximum": CAPS.get(name, LARGEST_NUMBER), "x-cap": True}
    else:
        closed = interval.closed in {"right", "both"}
        schema["maximum" if closed else "exclusiveMaximum"] = high
    return schema


def _integers(name: str, interval: Interval) -> Schema:
    low = -LARGEST_INTEGER if interval.left is None else int(interval.left)
    # An iteration count of zero is legal in scikit-learn and leaves a model that learnt nothing.
    low = max(low, 1) if name == "max_iter" else low
    low += interval.closed in {"right", "neither"} and interval.left is not None
    if interval.right is None:
        return integer(low, int(CAPS.get(name, LARGEST_INTEGER)))
    high = int(interval.right) - (interval.closed in {"left", "neither"})
    return {"type": "integer", "minimum": low, "maximum": high}


def _joined(members: list[Schema]) -> Schema:
    """One schema for all alternatives; options and null become one list."""
    listed = [value for member in members for value in member.get("enum", [])]
    rest = [member for member in members if "enum" not in member]
    if listed and {"type": "null"} in rest:
        rest.remove({"type": "null"})
        listed.append(None)
    joined = ([{"enum": listed}] if listed else []) + rest
    return joined[0] if len(joined) == 1 else either(*joined)


def _plain(default: Any) -> Any:
    if isinstance(default, tuple):
        return [_plain(item) for item in default]
    return default.item() if isinstance(default, np.generic) else default


def _documented_parameters(cls: type) -> dict[str, str]:
    """The first sentence about each parameter in scikit-learn's own documentation."""
    text = inspect.getdoc(cls) or ""
    section = re.search(r"\nParameters\n-+\n(.*?)(\n\n\w+\n-+\n|\Z)", text, re.DOTALL)
    if section is None:
        return {}
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\w[\w, ]* ?: )", "\n" + section.group(1)):
        head, _, body = block.strip("\n").partition("\n")
        paragraph = inspect.cleandoc(body).split("\n\n")[0]
        sentence = re.split(SENTENCE_END, _without_markup(paragraph) + " ")[0]
        for name in head.split(" :")[0].split(","):
            if 0 < len(sentence) <= 240:
                found[name.strip()] = sentence.strip().rstrip(".:") + "."
    return found


def _without_markup(text: str) -> str:
    text = re.sub(
        r":(?:class|func|ref|term|meth|mod|math|doc):`~?([^`<]*?)(?: <[^>]*>)?`", r"\1", text
    )
    return re.sub(r"\s+", " ", text.replace("``", "").replace("`", "")).strip()


def path() -> Path:
    """Where the catalogue lies."""
    return Path(str(files("app.training.catalog") / "catalogue.json"))


if __name__ == "__main__":
    path().write_text(render(build()), encoding="utf-8")
