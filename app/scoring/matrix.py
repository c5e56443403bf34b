"""Matrices of float64 as they flow between steps: dense, sparse by rows, or side by side.

Text makes rows with a handful of values among tens of thousands of columns. They stay sparse until
a step needs all of the columns; a linear model never does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dense = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class SparseRows:
    """Rows of which only some values differ from 0.

    Row ``i`` has ``values[starts[i]:starts[i + 1]]`` in the columns ``columns[...]`` likewise; no
    column occurs twice in a row.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: Dense
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def dense(self) -> Dense:
        """The same with every 0 written out."""
        full = np.zeros((len(self), self.width))
        full[self.rows(), self.columns] = self.values
        return full

    def rows(self) -> NDArray[np.int64]:
        """The row of each value."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def dot(self, weights: Dense) -> Dense:
        """The matrix product with ``weights``, of shape (width, outputs).

        Products are added up one after the other, as scipy does: a tree notices the last bit.
        """
        terms = weights[self.columns] * self.values[:, None]
        if len(self) == 1 and weights.shape[1] > 1:
            total: Dense = terms.sum(axis=0, keepdims=True)
            return total
        rows, product = self.rows(), np.empty((len(self), weights.shape[1]))
        for output, column in enumerate(terms.T):
            product[:, output] = np.bincount(rows, column, len(self))
        return product

    def with_values(self, values: Dense) -> "SparseRows":
        """The same places with other values."""
        return SparseRows(self.starts, self.columns, values, self.width)


@dataclass(frozen=True, eq=False, slots=True)
class SideBySide:
    """Matrices with the same rows, of which at least one is sparse, as one."""

    parts: Sequence[Dense | SparseRows]

    def __len__(self) -> int:
        return len(self.parts[0])

    def dense(self) -> Dense:
        """One matrix with every 0 written out."""
        return np.concatenate([dense(part) for part in self.parts], axis=1)

    def dot(self, weights: Dense) -> Dense:
        """The matrix product with ``weights``, part by part."""
        product = np.zeros((len(self), weights.shape[1]))
        start = 0
        for part in self.parts:
            end = start + (part.width if isinstance(part, SparseRows) else part.shape[1])
            product += dot(part, weights[start:end])
            start = end
        return product


Matrix = Dense | SparseRows | SideBySide


def dense(matrix: Matrix) -> Dense:
    """The matrix with every 0 written out."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.dense()


def dot(matrix: Matrix, weights: Dense) -> Dense:
    """The matrix product, without writing out the zeros of what is sparse."""
    if isinstance(matrix, np.ndarray):
        product: Dense = matrix @ weights
        return product
    return matrix.dot(weights)


def side_by_side(parts: Sequence[Any]) -> Matrix:
    """One matrix of several that have the same rows."""
    if len(parts) == 1:
        first: Matrix = parts[0]
        return first
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts, axis=1)
    flat: list[Dense | SparseRows] = []
    for part in parts:
        flat += part.parts if isinstance(part, SideBySide) else [part]
    return SideBySide(flat)
