"""Steps that look up the training rows nearest to a row, and what they make of these.

The distances are scikit-learn's to the last bit. Where several rows are equally far and not all of
them are among the nearest, it takes those that its search meets first; so does this.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.scoring.cores import Judged
from app.scoring.matrix import Dense, Matrix, dense
from app.scoring.step import Step

Places = NDArray[np.int64]


class Near(NamedTuple):
    """The distances to the nearest points, and which these are: (rows, count) each."""

    distances: Dense
    places: Places


@dataclass(eq=False)
class FindNeighbors(Step, kind="find_neighbors"):
    """The ``count`` nearest of the ``points`` for each row, in the order of their distance.

    ``metric`` is euclidean, products (euclidean by matrix products, rounding and all), manhattan,
    chebyshev, minkowski (of ``power``) or cosine. ``order`` are
    the points as scikit-learn's tree holds them, ``nodes`` the start, end and leafness of its
    nodes; ``bounds`` have the least and the greatest corner of each node, or its centre alone, in
    which case it reaches as far as ``radii``. Without nodes it looks through all points.
    """

    points: Dense
    count: int
    metric: str
    power: float
    order: Places
    nodes: Places
    bounds: Dense
    radii: Dense
    _columns: Dense = field(init=False)
    _directions: Dense = field(init=False)

    def __post_init__(self) -> None:
        self._columns = np.ascontiguousarray(self.points.T)
        self._directions = _directions(self.points) if self.metric == "cosine" else self.points

    def __call__(self, value: Matrix) -> Near:
        matrix = dense(value)
        if self.metric == "cosine":
            return self._by_angle(matrix)
        places = np.empty((len(matrix), self.count), dtype=np.int64)
        reduced = np.empty((len(matrix), self.count))
        with np.errstate(over="ignore", invalid="ignore"):
            products = self._products(matrix) if self.metric == "products" else None
            for number, row in enumerate(matrix):
                apart = self._reduced(self._columns, row) if products is None else products[number]
                chosen = self._chosen(apart, row)
                reduced[number], places[number] = apart[chosen], chosen
        return _sorted(_DISTANCES[self.metric](reduced, self.power), places)

    def _products(self, matrix: Dense) -> Dense:
        norms = np.einsum("ij,ij->i", matrix, matrix)[:, None]
        apart = norms + -2.0 * (matrix @ self.points.T) + (self.points**2).sum(axis=1)
        distances: Dense = np.maximum(apart, 0.0)
        return distances

    def _reduced(self, columns: Dense, row: Dense) -> Dense:
        """What grows with the distance of each column of ``columns`` from the row."""
        sizes = np.abs(columns - row[:, None])
        return _REDUCED[self.metric](sizes, self.power)

    def _chosen(self, apart: Dense, row: Dense) -> Places:
        """The places of the nearest points."""
        chosen: Places = np.argpartition(apart, self.count - 1)[: self.count]
        farthest = apart[chosen].max()
        if np.count_nonzero(apart <= farthest) == self.count and np.isfinite(farthest):
            return chosen
        return first_met(apart, self._met(row), self.count)

    def _met(self, row: Dense) -> Places:
        """The points in the order in which the search of scikit-learn meets them."""
        if not len(self.nodes):
            return np.arange(len(self.points))
        nearest = self._nearest_corner(row).tolist()
        nodes = self.nodes.tolist()

        def leaves(node: int) -> Iterator[tuple[int, int]]:
            start, end, is_leaf = nodes[node]
            if is_leaf:
                yield start, end
                return
            left, right = 2 * node + 1, 2 * node + 2
            ordered = (left, right) if nearest[left] <= nearest[right] else (right, left)
            for child in ordered:
                yield from leaves(child)

        return np.concatenate([self.order[start:end] for start, end in leaves(0)])

    def _nearest_corner(self, row: Dense) -> Dense:
        """How near each node comes, as ``_reduced`` measures it."""
        if len(self.bounds) == 1:
            centers = self._reduced(np.ascontiguousarray(self.bounds[0].T), row)
            outside = np.maximum(_DISTANCES[self.metric](centers, self.power) - self.radii, 0.0)
            return _REDUCED[self.metric](outside[None, :], self.power)
        low, high = self.bounds[0] - row, row - self.bounds[1]
        outside = 0.5 * ((low + np.abs(low)) + (high + np.abs(high)))
        return _REDUCED[self.metric](np.ascontiguousarray(outside.T), self.power)

    def _by_angle(self, matrix: Dense) -> Near:
        apart = 1.0 - _directions(matrix) @ self._directions.T
        np.clip(apart, 0.0, 2.0, out=apart)
        places: Places = np.argpartition(apart, self.count - 1, axis=1)[:, : self.count]
        return _sorted(np.take_along_axis(apart, places, axis=1), places)


def _sorted(distances: Dense, places: Places) -> Near:
    order = np.argsort(distances, axis=1, kind="stable")
    return Near(np.take_along_axis(distances, order, 1), np.take_along_axis(places, order, 1))


def _directions(matrix: Dense) -> Dense:
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    lengths[lengths == 0.0] = 1.0
    directions: Dense = matrix / lengths[:, None]
    return directions


# Sums over the first axis go column by column, as the loops of scikit-learn do.
_REDUCED: Final[Mapping[str, Callable[[Dense, float], Dense]]] = {
    "euclidean": lambda sizes, _: (sizes * sizes).sum(axis=0),
    "manhattan": lambda sizes, _: sizes.sum(axis=0),
    "chebyshev": lambda sizes, _: sizes.max(axis=0),
    "minkowski": lambda sizes, power: (sizes**power).sum(axis=0),
}
_DISTANCES: Final[Mapping[str, Callable[[Dense, float], Dense]]] = {
    "euclidean": lambda reduced, _: np.sqrt(reduced),
    "products": lambda reduced, _: np.sqrt(reduced),
    "manhattan": lambda reduced, _: reduced,
    "chebyshev": lambda reduced, _: reduced,
    "minkowski": lambda reduced, power: reduced ** (1.0 / power),
}


def first_met(apart: Dense, met: Places, count: int) -> Places:
    """The places that stay in a heap of ``count`` when all are pushed in the order ``met``.

    Among equals it depends on the heap which one stays, so this is scikit-learn's, step by step.
    """
    values, places = [float("inf")] * count, [0] * count
    for place, value in zip(met.tolist(), apart[met].tolist(), strict=True):
        if value >= values[0]:
            continue
        at = 0
        while True:
            child = 2 * at + 1
            if child >= count:
                break
            if child + 1 < count and values[child] < values[child + 1]:
                child += 1
            if value >= values[child]:
                break
            values[at], places[at] = values[child], places[child]
            at = child
        values[at], places[at] = value, place
    return np.array(places)


def weights_of(distances: Dense) -> Dense:
    """The inverse of each distance; where some are 0, these count 1 and the others nothing."""
    with np.errstate(divide="ignore"):
        weights = 1.0 / distances
    endless = np.isinf(weights)
    rows = endless.any(axis=1)
    weights[rows] = endless[rows]
    return weights


@dataclass(eq=False)
class VoteOfNeighbors(Step, kind="vote_of_neighbors"):
    """The share of each class among the neighbours; ``codes`` are the classes of the points."""

    codes: Places
    classes: int
    by_distance: bool

    def __call__(self, value: Near) -> Judged:
        rows = len(value.places)
        votes = self.codes[value.places] + np.arange(rows)[:, None] * self.classes
        weights = weights_of(value.distances).ravel() if self.by_distance else None
        counted = np.bincount(votes.ravel(), weights, minlength=rows * self.classes)
        shares = counted.reshape(rows, self.classes).astype(np.float64)
        return Judged(shares.argmax(axis=1), shares / shares.sum(axis=1, keepdims=True), shares)


@dataclass(eq=False)
class MeanOfNeighbors(Step, kind="mean_of_neighbors"):
    """The mean of what the neighbours have as their target; ``targets`` are those of the points."""

    targets: Dense
    by_distance: bool

    def __call__(self, value: Near) -> Dense:
        targets = self.targets[value.places]
        if not self.by_distance:
            mean: Dense = targets.mean(axis=1)
            return mean
        weights = weights_of(value.distances)
        weighed: Dense = (targets * weights).sum(axis=1) / weights.sum(axis=1)
        return weighed


@dataclass(eq=False)
class LocalDensity(Step, kind="local_density"):
    """How dense it is round a row, against its neighbours; below 0 is an outlier.

    ``reaches`` are the distances of the points to the last of their own neighbours, ``densities``
    the densities round them.
    """

    reaches: Dense
    densities: Dense
    offset: float

    def __call__(self, value: Near) -> Dense:
        reached = np.maximum(value.distances, self.reaches[value.places])
        density = 1.0 / (reached.mean(axis=1) + 1e-10)
        ratios = self.densities[value.places] / density[:, None]
        inside: Dense = -ratios.mean(axis=1) - self.offset
        return inside


@dataclass(eq=False)
class ImputeFromNeighbors(Step, kind="impute_from_neighbors"):
    """Fill what is missing with the mean of the nearest points that have it; append indicators.

    ``points`` have NaN for what they lack. ``kept`` are the columns that stay, ``indicated`` those
    with an indicator; a column that no point has is filled with 0. ``by_columns`` tells that the
    points lay column after column when they were fitted, which products of matrices round by.
    """

    points: Dense
    count: int
    by_distance: bool
    kept: Places
    indicated: Places
    by_columns: bool
    _gone: NDArray[np.bool_] = field(init=False)
    _filled: Dense = field(init=False)
    _means: Dense = field(init=False)

    def __post_init__(self) -> None:
        self._gone = np.isnan(self.points)
        self._filled = np.where(self._gone, 0.0, self.points)
        if self.by_columns:
            self._filled = np.asfortranarray(self._filled)
        known = np.maximum((~self._gone).sum(axis=0), 1)
        self._means = self._filled.sum(axis=0) / known

    def __call__(self, value: Matrix) -> Dense:
        matrix = np.asfortranarray(dense(value)) if self.by_columns else dense(value)
        gone = np.isnan(matrix)
        filled = matrix.copy()
        empty = self._gone.all(axis=0)
        rows = np.flatnonzero(gone[:, ~empty].any(axis=1))
        if rows.size:
            with np.errstate(over="ignore", invalid="ignore"):
                filled[rows] = self._impute(matrix[rows], gone[rows])
        filled[:, empty] = 0.0
        return np.concatenate([filled[:, self.kept], gone[:, self.indicated]], axis=1)

    def _impute(self, matrix: Dense, gone: NDArray[np.bool_]) -> Dense:
        filled = matrix.copy()
        distances = self._distances(np.where(gone, 0.0, matrix), gone)
        for column in np.flatnonzero(gone.any(axis=0) & ~self._gone.all(axis=0)):
            donors = np.flatnonzero(~self._gone[:, column])
            takers = np.flatnonzero(gone[:, column])
            apart = distances[takers][:, donors]
            alone = np.isnan(apart).all(axis=1)
            filled[takers[alone], column] = self._means[column]
            if not alone.all():
                found = self._mean(apart[~alone], self.points[donors, column])
                filled[takers[~alone], column] = found
        return filled

    def _mean(self, apart: Dense, donors: Dense) -> Dense:
        count = min(self.count, len(donors))
        places = np.argpartition(apart, count - 1, axis=1)[:, :count]
        distances = np.take_along_axis(apart, places, axis=1)
        unknown = np.isnan(distances)
        weights = weights_of(distances) if self.by_distance else np.ones_like(distances)
        weights[unknown | np.isnan(weights)] = 0.0
        total = weights.sum(axis=1)
        summed: Dense = (donors[places] * weights).sum(axis=1)
        return summed / np.where(total == 0.0, 1.0, total)

    def _distances(self, matrix: Dense, gone: NDArray[np.bool_]) -> Dense:
        """Euclidean distances by what both have, scaled up to all columns; NaN for nothing.

        The same products in the same order as ``nan_euclidean_distances``: what is equally far is
        told apart by their rounding.
        """
        points, absent = self._filled, self._gone.astype(np.float64)
        squares = -2 * (matrix @ points.T)
        squares += np.einsum("ij,ij->i", matrix, matrix)[:, None]
        squares += np.einsum("ij,ij->i", points, points)[None, :]
        np.maximum(squares, 0, out=squares)
        squares -= (matrix * matrix) @ absent.T
        squares -= gone.astype(np.float64) @ (points * points).T
        np.clip(squares, 0, None, out=squares)
        both = (1.0 - gone) @ (1.0 - absent).T
        squares[both == 0] = np.nan
        squares /= np.maximum(both, 1)
        squares *= matrix.shape[1]
        distances: Dense = np.sqrt(squares)
        return distances
