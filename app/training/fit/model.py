"""Makes the pipeline of a run and fits it; what scikit-learn has to say comes back in our words."""

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures

from app.training.catalog.lookup import Catalog
from app.training.fit.auto import AutoModel
from app.training.fit.columns import Columns
from app.training.fit.estimators import Builder, Built, without_search
from app.training.fit.preparation import View, column_transformer, width
from app.training.fit.spec import FitError, FitSpec

Array = NDArray[Any]
T = TypeVar("T")

MOST_CELLS: Final = 500_000_000
MOST_OUTPUTS: Final = 100_000
LONGEST_MESSAGE: Final = 300
REFUSALS: Final = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    AttributeError,
)
"""What scikit-learn raises when data and parameters don't fit together."""


@dataclass(frozen=True)
class Fitted:
    """A fitted model, how it was chosen, and what scikit-learn warned of meanwhile."""

    model: Any
    account: dict[str, Any]
    notes: list[tuple[str, str]] = field(default_factory=list)


class Maker:
    """Makes unfitted pipelines for one run: the one asked for, or the one chosen for the rows.

    ``moments`` is set where the model is judged in time: when each row of the run happened.
    """

    def __init__(
        self,
        spec: FitSpec,
        task: str,
        columns: Columns,
        rows: int,
        moments: Array | None = None,
    ) -> None:
        self._columns = columns
        self._rows = rows
        self._moments = moments
        self._task = task
        self._random_state = spec.random_state
        self._built: Built | None = None
        if not spec.estimator.is_auto:
            builder = Builder(Catalog.load(), task, spec.random_state)
            self._built = builder.build(spec.estimator)
            self._refuse_too_large(self._built, spec.estimator.names[0])

    def make(
        self, frame: pd.DataFrame, target: Array | None
    ) -> tuple[BaseEstimator, dict[str, Any]]:
        """The pipeline to fit on these rows, and an account of the choice."""
        if self._built is None:
            auto = AutoModel(
                self._columns, self._task, self._rows, self._random_state, self._moments
            )
            chosen = auto.choose(frame, target)
            return chosen.model, chosen.account
        # scikit-learn's histograms break on columns without any value.
        prepare = column_transformer(self._columns.known_in(frame), self._view(self._built))
        steps = [("prepare", prepare), *self._built.steps, ("model", self._built.model)]
        return Pipeline(steps), {"chosen": "as asked for"}

    def _view(self, built: Built) -> View:
        return View.for_estimators(
            [*(step for _, step in built.steps), built.model],
            trees=built.family == "trees",
            task=self._task,
            rows=self._rows,
            random_state=self._random_state,
            scale=not built.scales,
            named=built.preparations,
        )

    def _refuse_too_large(self, built: Built, name: str) -> None:
        """Raises ``FitError`` before memory or time is spent on what can't end well."""
        if built.max_rows is not None and self._rows > built.max_rows[1]:
            limited, most = built.max_rows
            raise FitError(f"{limited} takes at most {most:,} rows; there are {self._rows:,}.")
        view = self._view(built)
        across = width(self._columns, view)
        for _, step in built.steps:
            if isinstance(step, PolynomialFeatures):
                across = math.comb(across + step.degree, step.degree)
                if across > MOST_OUTPUTS:
                    raise FitError(
                        f"PolynomialFeatures of degree {step.degree} would make {across:,} columns;"
                        f" at most {MOST_OUTPUTS:,}."
                    )
        if not view.sparse and across * self._rows > MOST_CELLS:
            raise FitError(
                f"{name} needs a table of {across:,} columns and {self._rows:,} rows in memory; "
                f"at most {MOST_CELLS:,} values. Choose fewer columns, or an encoder that makes "
                "fewer of them."
            )


def fit(model: Any, account: dict[str, Any], frame: pd.DataFrame, target: Array | None) -> Fitted:
    """Fit a pipeline; a search is replaced by its winner. Raises ``FitError``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_our_words(lambda: model.fit(frame, target))
    notes = _notes(caught)
    if isinstance(model, Pipeline):
        name, last = model.steps[-1]
        winner, search = without_search(last)
        if search is not None:
            model = Pipeline([*model.steps[:-1], (name, winner)])
            account = {**account, "search": search}
    return Fitted(model, account, notes)


def in_our_words(call: Callable[[], T]) -> T:
    """The result of the call, or ``FitError`` with the first sentence of what went wrong."""
    try:
        return call()
    except REFUSALS as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        said = _without_paths(lines[0] if not lines[0].endswith(":") else " ".join(lines[:2]))
        raise FitError(f"The model could not be fitted: {said[:LONGEST_MESSAGE]}") from error


def _notes(caught: Sequence[warnings.WarningMessage]) -> list[tuple[str, str]]:
    """Each warning once, as code and text."""
    found: dict[tuple[str, str], None] = {}
    for warning in caught:
        said = _without_paths(str(warning.message).strip().splitlines()[0])[:LONGEST_MESSAGE]
        code = "not_converged" if issubclass(warning.category, ConvergenceWarning) else "fit"
        found[(code, said)] = None
    return list(found)[:20]


def _without_paths(text: str) -> str:
    return re.sub(r"(?:/[\w.+-]+){2,}", "…", text)
