"""Steps that compare rows with stored vectors, and random features that stand for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.scoring.cores import Judged, Labels, softmax
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


@dataclass(eq=False)
class NearestCentroids(Step, kind="nearest_centroids"):
    """The class of the nearest centre, with the scores of how near each is for its spread.

    ``metric`` is euclidean or manhattan; ``spreads`` divide the columns of the scores, ``priors``
    are the logarithms of the classes' shares. With ``even`` classes the nearest centre decides,
    otherwise the score; ``shares`` tells whether there are probabilities.
    """

    centers: Dense
    metric: str
    spreads: Dense
    priors: Dense
    even: bool
    shares: bool

    def __call__(self, value: Matrix) -> Judged:
        matrix = dense(value)
        apart = self._distances(matrix / self.spreads, self.centers / self.spreads)
        scores = 2.0 * self.priors - apart**2
        judged = -self._nearness(matrix) if self.even else scores
        decision = scores[:, 1] - scores[:, 0] if len(self.priors) == 2 else scores
        probabilities = softmax(scores) if self.shares else None
        return Judged(judged.argmax(axis=1), probabilities, decision)

    def _nearness(self, matrix: Dense) -> Dense:
        """What grows with the distance from each centre."""
        if self.metric == "manhattan":
            return self._distances(matrix, self.centers)
        apart: Dense = (self.centers**2).sum(axis=1) - 2.0 * (matrix @ self.centers.T)
        return apart

    def _distances(self, matrix: Dense, centers: Dense) -> Dense:
        if self.metric == "manhattan":
            sizes: Dense = np.abs(matrix[:, None, :] - centers).sum(axis=2)
            return sizes
        # By products and one by one, as scikit-learn does: far out, rounding is all that is left.
        norms = np.einsum("ij,ij->i", matrix, matrix)
        apart = np.empty((len(matrix), len(centers)))
        for place in range(len(centers)):
            center = centers[[place]]
            apart[:, place] = -2 * (matrix @ center.T)[:, 0]
            apart[:, place] += norms
            apart[:, place] += np.einsum("ij,ij->i", center, center)
        return np.sqrt(np.maximum(apart, 0.0))


@dataclass(eq=False)
class Bisect(Step, kind="bisect"):
    """Down a tree of pairs of centres, each time to the nearer one, to the cluster at its end.

    ``centers`` are (pairs, 2, columns); ``ends`` (pairs, 2) are the pair that follows, or, below 0,
    the cluster ``-1 - end``. The first pair is the root.
    """

    centers: Dense
    ends: NDArray[np.int64]
    _norms: Dense = field(init=False)

    def __post_init__(self) -> None:
        self._norms = (self.centers**2).sum(axis=2)

    def __call__(self, value: Matrix) -> Labels:
        matrix = dense(value)
        if not len(self.ends):
            return np.zeros(len(matrix), dtype=np.int64)
        here = np.zeros(len(matrix), dtype=np.int64)
        while (here >= 0).any():
            for pair in np.unique(here[here >= 0]).tolist():
                rows = np.flatnonzero(here == pair)
                apart = self._norms[pair] - 2.0 * (matrix[rows] @ self.centers[pair].T)
                here[rows] = self.ends[pair][apart.argmin(axis=1)]
        return -1 - here
