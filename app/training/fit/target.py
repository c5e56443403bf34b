"""The target column: which task it stands for, which rows have it, and as what it is learnt."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.training.fit.spec import SUPERVISED, FitError, FitSpec
from app.training.fit.table import Table

MOST_CLASSES: Final = 1000
FEW_DISTINCT: Final = 20
ROWS_PER_DISTINCT: Final = 5


@dataclass(frozen=True)
class Target:
    """The known values of the target, and the rows that have one."""

    values: NDArray[Any]
    known: NDArray[np.bool_]


def task_of(spec: FitSpec, table: Table) -> str:
    """The task of a run.

    Strings and booleans are classes. Integers are, if there are at most 20 different ones and each
    occurs five times on the average. Everything else is a quantity.
    """
    if spec.known_task is not None:
        return spec.known_task
    if spec.target is None:
        raise FitError("Name a target, or a task that needs none.")
    if table.types[spec.target] in {"string", "boolean"}:
        return "classification"
    known = table.known(spec.target)
    distinct = len(np.unique(known))
    few = distinct <= FEW_DISTINCT and distinct * ROWS_PER_DISTINCT <= len(known)
    return "classification" if few and table.types[spec.target] == "integer" else "regression"


def read_target(name: str, table: Table, task: str) -> Target:
    """What is to be learnt; raises ``FitError`` where nothing can be."""
    known = ~table.missing(name)
    values = table.known(name)
    if not len(values):
        raise FitError(f"Every value of the target '{name}' is missing.")
    if task in SUPERVISED and (values == values[0]).all():
        raise FitError(f"The target '{name}' has the same value in every row.")
    if task == "regression":
        return Target(values.astype(np.float64), known)
    if values.dtype.kind == "f" and (values != np.floor(values)).any():
        raise FitError(
            f"The target '{name}' has fractions: it is a quantity for regression, not classes."
        )
    classes, counts = np.unique(values, return_counts=True)
    if len(classes) > MOST_CLASSES:
        raise FitError(f"The target '{name}' has {len(classes)} classes; at most {MOST_CLASSES}.")
    if counts.min() < 2:
        rare = str(classes[counts.argmin()])[:60]
        others = int((counts < 2).sum()) - 1
        told = f" (and {others} more)" if others else ""
        raise FitError(
            f"The class '{rare}'{told} of the target '{name}' has one row; each class needs two. "
            "Remove that row or merge the class with another."
        )
    return Target(values, known)
