"""Steps that compare rows with stored vectors, and random features that stand for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.scoring.matrix import Dense, Matrix, dense
from app.scoring.step import Step


@dataclass(eq=False)
class Kernel(Step, kind="kernel"):
    """The kernel of each row with each of ``vectors``: (rows, vectors).

    ``function`` is linear, rbf, poly or sigmoid; ``gamma``, ``degree`` and ``offset`` are its
    parameters.
    """

    vectors: Dense
    function: str
    gamma: float
    degree: float
    offset: float

    def __call__(self, value: Matrix) -> Dense:
        return KERNELS[self.function](self, dense(value))

    def products(self, matrix: Dense) -> Dense:
        """Products of rows and vectors, scaled and moved."""
        scaled: Dense = self.gamma * (matrix @ self.vectors.T) + self.offset
        return scaled

    def distances(self, matrix: Dense) -> Dense:
        """Squared Euclidean distances of rows and vectors.

        Row by row: the usual short cut by norms and products loses digits of large numbers.
        """
        squares = np.empty((len(matrix), len(self.vectors)))
        for place, row in enumerate(matrix):
            apart = self.vectors - row
            np.einsum("ij,ij->i", apart, apart, out=squares[place])
        return squares


KERNELS: Final[Mapping[str, Callable[[Kernel, Dense], Dense]]] = {
    "linear": lambda kernel, matrix: matrix @ kernel.vectors.T,
    "rbf": lambda kernel, matrix: np.exp(-kernel.gamma * kernel.distances(matrix)),
    "poly": lambda kernel, matrix: kernel.products(matrix) ** kernel.degree,
    "sigmoid": lambda kernel, matrix: np.tanh(kernel.products(matrix)),
}


@dataclass(eq=False)
class Cosines(Step, kind="cosines"):
    """``cos(x) * factor``: the last part of random Fourier features."""

    factor: float

    def __call__(self, value: Dense) -> Dense:
        waves: Dense = np.cos(value) * self.factor
        return waves


@dataclass(eq=False)
class Ellipse(Step, kind="ellipse"):
    """How far inside the ellipse each row lies; below 0 is outside."""

    center: Dense
    precision: Dense
    offset: float

    def __call__(self, value: Matrix) -> Dense:
        apart = dense(value) - self.center
        inside: Dense = -np.einsum("ij,jk,ik->i", apart, self.precision, apart) - self.offset
        return inside
