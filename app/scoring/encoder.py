"""From the raw columns of a request to matrices: the frame, and the steps that take it apart.

A compiled model starts with a ``Row`` or a ``Batch``: the prepared columns, in the order of the
recipe. ``Numbers``, ``Levels`` and ``Texts`` pick columns of it, and ``Together`` sets side by side
what several branches make of the same input, as a ColumnTransformer does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.kernel.repeated import Repeated
from app.scoring.frame import (
    Column,
    PreparedColumn,
    Recipe,
    prepare_column,
    prepare_values,
    rows_of,
)
from app.scoring.matrix import Dense, Matrix, dense, side_by_side
from app.scoring.step import Step

Level = str | float | None
"""What a category looks like in a table: a string or a number; None is missing."""


class Row:
    """One row, prepared."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return 1

    def numbers(self, columns: Sequence[int]) -> Dense:
        """These columns, all of them numbers, as a matrix."""
        values = self._values
        return np.array([[values[column] for column in columns]], dtype=np.float64)

    def levels(self, columns: Sequence[int]) -> list[Sequence[Level]]:
        """These columns as categories or texts."""
        return [[known(self._values[column])] for column in columns]


class Batch:
    """Any number of rows; a column is prepared when a step first asks for it."""

    def __init__(self, recipe: Recipe, raw: Mapping[str, Column]) -> None:
        self._recipe = recipe
        self._raw = raw
        self._rows = rows_of(recipe, raw)
        self._numbers: dict[int, Dense] = {}
        self._levels: dict[int, Sequence[Level]] = {}

    def __len__(self) -> int:
        return self._rows

    def numbers(self, columns: Sequence[int]) -> Dense:
        """These columns, all of them numbers, as a matrix."""
        matrix = np.empty((self._rows, len(columns)))
        for place, column in enumerate(columns):
            if column not in self._numbers:
                wanted = self._recipe.columns[column]
                self._numbers[column] = prepare_column(wanted, self._raw[wanted.source])
            matrix[:, place] = self._numbers[column]
        return matrix

    def levels(self, columns: Sequence[int]) -> list[Sequence[Level]]:
        """These columns as categories or texts."""
        for column in columns:
            if column not in self._levels:
                wanted = self._recipe.columns[column]
                self._levels[column] = _levels(wanted, self._raw[wanted.source])
        return [self._levels[column] for column in columns]


def _levels(wanted: PreparedColumn, raw: Column) -> Sequence[Level]:
    if isinstance(raw, Repeated):
        return raw.with_values(_levels(wanted, raw.values))
    values = prepare_values(wanted, raw)
    return values if wanted.kind in {"category", "text"} else list(map(known, values))


def known(value: Any) -> Level:
    """The value as it stands in tables of categories: NaN becomes None."""
    level: Level = None if isinstance(value, float) and math.isnan(value) else value
    return level


@dataclass(eq=False)
class Numbers(Step, kind="numbers"):
    """Frame to matrix: these prepared columns, by position."""

    columns: list[int]

    def __call__(self, value: Row | Batch) -> Dense:
        return value.numbers(self.columns)


@dataclass(eq=False)
class Levels(Step, kind="levels"):
    """Frame to lists of categories: these prepared columns, by position."""

    columns: list[int]

    def __call__(self, value: Row | Batch) -> list[Sequence[Level]]:
        return value.levels(self.columns)


@dataclass(eq=False)
class Texts(Step, kind="texts"):
    """Frame to a list of texts: one prepared column, by position."""

    column: int

    def __call__(self, value: Row | Batch) -> Sequence[Level]:
        return value.levels([self.column])[0]


@dataclass(eq=False)
class LevelsOfMatrix(Step, kind="levels_of_matrix"):
    """Matrix to lists of categories: every column, its numbers taken as categories."""

    def __call__(self, value: Matrix) -> list[Sequence[Level]]:
        return [[known(number) for number in column] for column in dense(value).T.tolist()]


@dataclass(eq=False)
class PickLevels(Step, kind="pick_levels"):
    """Lists of categories to fewer or reordered ones."""

    columns: list[int]

    def __call__(self, value: list[Sequence[Level]]) -> list[Sequence[Level]]:
        return [value[column] for column in self.columns]


@dataclass(eq=False)
class PickColumns(Step, kind="pick_columns"):
    """Matrix to matrix: these columns, by position."""

    columns: list[int]

    def __call__(self, value: Matrix) -> Dense:
        return dense(value)[:, self.columns]


@dataclass(eq=False)
class Together(Step, kind="together"):
    """What every branch makes of the same input, side by side."""

    branches: list[Step]

    def __call__(self, value: Any) -> Matrix:
        return side_by_side([branch(value) for branch in self.branches])
