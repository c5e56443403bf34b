"""A compiled model: what training made, ready to answer; the same object for every thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from app.kernel.errors import Invalid
from app.scoring.alone import Answering
from app.scoring.cores import Judged
from app.scoring.encoder import Batch
from app.scoring.frame import Column, Recipe, rows_of
from app.scoring.matrix import dense
from app.scoring.scores import Array, Scores, joined
from app.scoring.step import Step

CELLS_AT_ONCE: Final = 2**22
"""No step makes a matrix of more cells than this at a time: 32 MiB."""


@dataclass(frozen=True, eq=False)
class Golden:
    """Rows that the model was verified on, with the answers it must give again wherever it runs.

    ``tolerance`` bounds the difference of each number.
    """

    columns: Mapping[str, Sequence[Any]]
    answers: Mapping[str, Array]
    tolerance: float


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """Answers about raw rows, by a chain of steps.

    ``output`` is that of the signature: the task, and for a classifier its classes. ``widest`` is
    the number of cells per row of the widest matrix on the way; ``versions`` are those of the
    libraries that took part in compiling.
    """

    recipe: Recipe
    output: Mapping[str, Any]
    step: Step
    widest: int
    versions: Mapping[str, str]
    golden: Golden | None = None
    _alone: dict[tuple[str, ...], Answering] = field(default_factory=dict, init=False, repr=False)

    def score(self, columns: Mapping[str, Column]) -> Scores:
        """Answer about rows given as columns, of Python values out of JSON or numpy arrays.

        More columns than the model needs do no harm. Raises ``Invalid`` if a column is absent, a
        value cannot be read, or the model cannot do without a value that is missing.
        """
        rows = rows_of(self.recipe, columns)
        at_once = max(1, min(8192, CELLS_AT_ONCE // self.widest))
        if rows <= at_once:
            return self._answer(Batch(self.recipe, columns))
        parts = []
        for start in range(0, rows, at_once):
            part = {name: columns[name][start : start + at_once] for name in self.recipe.sources}
            parts.append(self._answer(Batch(self.recipe, part)))
        return joined(parts)

    def alone(self, names: tuple[str, ...]) -> Answering:
        """What answers about single rows, of Python values out of JSON in the order of ``names``.

        Several times as fast as ``score``, and the same to the last bit. Raises ``Invalid`` if a
        column is absent.
        """
        found = self._alone.get(names)
        if found is None:
            found = Answering(self.recipe, self.step, self.output, names, self.conclude)
            self._alone[names] = found
        return found

    def _answer(self, frame: Batch) -> Scores:
        return self.conclude(self.step(frame)) if len(frame) else self._nothing()

    def conclude(self, result: Any) -> Scores:
        """The answers in what the steps give; raises ``Invalid`` where one is no finite number."""
        task = self.output["task"]
        if task == "classification":
            return self._judgement(result)
        if task == "decomposition":
            result = dense(result)
        refuse_endless(result)
        if task == "outlier_detection":
            return Scores(task, outliers=result < 0, unusual=-result)
        return Scores(task, **{RESULTS[task]: result})

    def _judgement(self, judged: Judged) -> Scores:
        known = judged.decision if judged.probabilities is None else judged.probabilities
        refuse_endless(known)
        shown = judged.probabilities if self.output.get("probabilities") else None
        classes = self.output["classes"]
        return Scores("classification", classes, labels=judged.labels, probabilities=shown)

    def _nothing(self) -> Scores:
        task, nothing = self.output["task"], np.empty(0)
        whole = np.empty(0, dtype=np.int64)
        if task == "classification":
            classes = self.output["classes"]
            shares = np.empty((0, len(classes))) if self.output.get("probabilities") else None
            return Scores(task, classes, labels=whole, probabilities=shares)
        if task == "outlier_detection":
            return Scores(task, outliers=nothing.astype(bool), unusual=nothing)
        if task == "decomposition":
            return Scores(task, components=np.empty((0, self.output["components"])))
        if task == "clustering":
            return Scores(task, clusters=whole)
        return Scores(task, values=nothing)


RESULTS: Final[Mapping[str, str]] = {
    "regression": "values",
    "clustering": "clusters",
    "decomposition": "components",
}


def refuse_endless(numbers: Array) -> None:
    """Raise ``Invalid`` where a result is no finite number: JSON could not carry it either."""
    if numbers.dtype.kind != "f":
        return
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(numbers), -1).all(axis=1)))
        raise Invalid(f"row {row}: the model has no answer; a value is missing, or too far out")
