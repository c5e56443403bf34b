"""Steps from categories to numbers: filling, one-hot columns, and tables of codes.

A category is looked up by equality, with None for whatever is missing; it makes no difference
whether the value came as a string out of JSON or out of a Parquet file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.kernel.errors import Invalid
from app.kernel.repeated import Repeated
from app.scoring.encoder import Level
from app.scoring.matrix import Dense, Matrix, SparseRows
from app.scoring.step import Step

WIDE = 256
"""From this many one-hot columns on, they are kept sparse."""


@dataclass(eq=False)
class FillLevels(Step, kind="fill_levels"):
    """Fill what is missing in each list of categories; a fill of None leaves it missing."""

    fill: list[Level]

    def __call__(self, value: Sequence[Sequence[Level]]) -> list[Sequence[Level]]:
        return [_filled(column, fill) for column, fill in zip(value, self.fill, strict=True)]


@dataclass(eq=False)
class OneHot(Step, kind="one_hot"):
    """A column of zeros and ones for each known category.

    ``codes[i][j]`` is the output column that stands for ``levels[i][j]``, -1 where none does (a
    dropped category); ``unknown[i]`` is the one for every other value. With ``refuse_unknown`` any
    other value raises ``Invalid``.
    """

    levels: list[list[Level]]
    codes: list[list[int]]
    unknown: list[int]
    width: int
    refuse_unknown: bool = False
    tables: list[dict[Level, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.tables = [
            dict(zip(levels, codes, strict=True))
            for levels, codes in zip(self.levels, self.codes, strict=True)
        ]

    def __call__(self, value: Sequence[Sequence[Level]]) -> Matrix:
        rows = len(value[0])
        if self.refuse_unknown:
            refuse_unknown(self.tables, value)
        if self.width >= WIDE:
            return self._sparse(value, rows)
        # The last column takes every code of -1, and is cut off.
        matrix = np.zeros((rows, self.width + 1))
        every = np.arange(rows)
        for column, table, unknown in zip(value, self.tables, self.unknown, strict=True):
            matrix[every, _looked_up(column, table, unknown)] = 1.0
        return matrix[:, :-1]

    def _sparse(self, value: Sequence[Sequence[Level]], rows: int) -> SparseRows:
        codes = np.empty((rows, len(value)), dtype=np.int64)
        for place, (column, table) in enumerate(zip(value, self.tables, strict=True)):
            unknown = self.unknown[place]
            codes[:, place] = _looked_up(column, table, unknown)
        known = codes >= 0
        starts = np.zeros(rows + 1, dtype=np.int64)
        np.cumsum(known.sum(axis=1), out=starts[1:])
        return SparseRows(starts, codes[known], np.ones(int(starts[-1])), self.width)


@dataclass(eq=False)
class Codes(Step, kind="codes"):
    """A few numbers for each category: ordinals, or means of a target.

    Row ``j`` of ``tables[i]`` holds the numbers for ``levels[i][j]``; its last row those for every
    other value. The output has the numbers of the first column, then those of the second...
    """

    levels: list[list[Level]]
    tables: list[Dense]
    refuse_unknown: bool = False
    places: list[dict[Level, int]] = field(init=False)
    numbers: list[list[list[float]]] = field(init=False)

    def __post_init__(self) -> None:
        self.places = [
            {level: place for place, level in enumerate(levels)} for levels in self.levels
        ]
        self.numbers = [table.tolist() for table in self.tables]

    def __call__(self, value: Sequence[Sequence[Level]]) -> Dense:
        if self.refuse_unknown:
            refuse_unknown(self.places, value)
        found = []
        for column, places, table in zip(value, self.places, self.tables, strict=True):
            found.append(table[_looked_up(column, places, -1)])
        return np.concatenate(found, axis=1)


def _filled(column: Sequence[Level], fill: Level) -> Sequence[Level]:
    if isinstance(column, Repeated):
        return column.with_values(_filled(column.values, fill))
    return [fill if level is None else level for level in column]


def _looked_up(column: Sequence[Level], table: dict[Level, int], otherwise: int) -> NDArray[Any]:
    if isinstance(column, Repeated):
        return _looked_up(column.values, table, otherwise)[column.codes]
    return np.array(list(map(table.get, column, repeat(otherwise))), dtype=np.int64)


def refuse_unknown(tables: Sequence[dict[Level, int]], value: Sequence[Sequence[Level]]) -> None:
    """Raise ``Invalid`` for a category that the model was not trained on."""
    for column, table in zip(value, tables, strict=True):
        for row, level in enumerate(column):
            if level not in table:
                raise Invalid(f"row {row}: the model does not know the category {level!r:.80}")
