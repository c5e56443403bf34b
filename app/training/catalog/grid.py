"""The candidates of a search: which values of which parameters of the searched estimator."""

import math
from collections.abc import Mapping
from typing import Any, Final

from app.kernel.errors import FieldError
from app.training.catalog.entries import Entry
from app.training.catalog.values import problems

CANDIDATE_FITS: Final = 500
"""Candidates times folds, at most."""
DEFAULT_FOLDS: Final = 5
MOST_PARAMETERS: Final = 10
SCORING_OF: Final[Mapping[str, frozenset[str]]] = {
    "classification": frozenset(
        {"accuracy", "balanced_accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"}
    ),
    "regression": frozenset({"r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"}),
}


def candidates(given: Mapping[str, Any]) -> float:
    """How many candidates a search tries."""
    if "n_iter" in given:
        return float(given["n_iter"])
    sizes = [len(values) for values in given.get("param_grid", {}).values()]
    return float(math.prod(sizes))


def grid_problems(
    search: Entry, searched: Entry | None, given: Mapping[str, Any], pointer: str
) -> list[FieldError]:
    """What is wrong with the grid: names, each value, the amount of work, the score."""
    if searched is None:
        detail = "a search tries parameters of one estimator {name, params}, not of steps"
        return [FieldError(f"{pointer}/estimator", "not_here", detail)]
    key = "param_grid" if "param_grid" in search.properties else "param_distributions"
    grid, at = given[key], f"{pointer}/{key}"
    if not isinstance(grid, dict) or not 1 <= len(grid) <= MOST_PARAMETERS:
        detail = f"must be an object of 1 to {MOST_PARAMETERS} parameters"
        return [FieldError(at, "type", detail)]
    found: list[FieldError] = []
    for name, values in grid.items():
        schema = searched.properties.get(name)
        below = f"{at}/{name[:64]}"
        if schema is None or "x-spec" in str(schema):
            known = sorted(searched.properties)
            detail = f"{searched.name} has no parameter of that name that can be searched"
            found.append(FieldError(below, "unknown_parameter", detail, known))
        elif isinstance(values, dict) and key == "param_distributions":
            found += _range_problems(schema, values, below)
        else:
            found += _list_problems(schema, values, below)
    return found or _work_problems({**search.defaults, **given}, searched, pointer)


def _list_problems(schema: Mapping[str, Any], values: Any, pointer: str) -> list[FieldError]:
    if not isinstance(values, list) or not 1 <= len(values) <= 100:
        return [FieldError(pointer, "type", "must be a list of 1 to 100 values")]
    found: list[FieldError] = []
    for index, value in enumerate(values):
        found += problems(schema, value, f"{pointer}/{index}")
    return found


def _range_problems(
    schema: Mapping[str, Any], values: Mapping[str, Any], pointer: str
) -> list[FieldError]:
    known = {"low", "high", "log"}
    if not {"low", "high"} <= set(values) <= known or not isinstance(
        values.get("log", False), bool
    ):
        return [FieldError(pointer, "type", "must be {low, high, log?}", sorted(known))]
    found: list[FieldError] = []
    for end in ("low", "high"):
        found += problems(schema, values[end], f"{pointer}/{end}")
    if found:
        return found
    low, high = values["low"], values["high"]
    if any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in (low, high)):
        return [FieldError(pointer, "type", "low and high must be numbers")]
    if low >= high or (values.get("log") and low <= 0):
        return [FieldError(pointer, "out_of_order", "low must be below high, and above 0 if log")]
    return []


def _work_problems(given: Mapping[str, Any], searched: Entry, pointer: str) -> list[FieldError]:
    fits = candidates(given) * (given["cv"] or DEFAULT_FOLDS)
    if fits > CANDIDATE_FITS:
        detail = f"candidates times folds are {fits:,.0f}; at most {CANDIDATE_FITS}"
        return [FieldError(pointer, "limit_exceeded", detail, {"maximum": CANDIDATE_FITS})]
    scoring = given["scoring"]
    allowed = frozenset().union(*(SCORING_OF.get(task, frozenset()) for task in searched.tasks))
    if scoring is not None and scoring not in allowed:
        detail = f"{scoring} is not a score for {' or '.join(searched.tasks)}"
        return [FieldError(f"{pointer}/scoring", "not_an_option", detail, sorted(allowed))]
    return []
