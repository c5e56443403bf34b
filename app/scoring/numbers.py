"""Steps from matrix to matrix: imputing, scaling, and what else is arithmetic by column.

Each repeats scikit-learn's own float64 operations in the same order, so that results agree to the
last bit where it works on dense matrices. A step never changes the matrix that it is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.errors import Invalid
from app.scoring.matrix import Dense, Matrix, SideBySide, SparseRows, dense, dot
from app.scoring.step import Step


@dataclass(eq=False)
class Impute(Step, kind="impute"):
    """Fill what is missing, then append indicators of what was.

    ``kept`` are the columns that stay, ``fill`` their values, ``indicated`` the columns (of the
    input) that have an indicator, ``missing`` the number that means missing; NaN if None.
    """

    kept: NDArray[np.int64]
    fill: Dense
    indicated: NDArray[np.int64]
    missing: float | None = None

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        gone = np.isnan(matrix) if self.missing is None else matrix == self.missing
        if len(self.kept) == matrix.shape[1]:
            filled = np.where(gone, self.fill, matrix)
        else:
            filled = np.where(gone[:, self.kept], self.fill, matrix[:, self.kept])
        if not len(self.indicated):
            return filled
        return np.concatenate([filled, gone[:, self.indicated]], axis=1)


@dataclass(eq=False)
class Scale(Step, kind="scale"):
    """``(x - shift) / divisor`` by column; either may be None.

    Sparse rows stay sparse where nothing is shifted.
    """

    shift: Dense | None
    divisor: Dense | None

    def __call__(self, value: Matrix) -> Matrix:
        if isinstance(value, SparseRows) and self.shift is None:
            if self.divisor is None:
                return value
            return value.with_values(value.values * (1.0 / self.divisor)[value.columns])
        matrix = dense(value)
        if self.shift is not None:
            matrix = matrix - self.shift
        if self.divisor is not None:
            matrix = matrix / self.divisor
        return matrix


@dataclass(eq=False)
class Stretch(Step, kind="stretch"):
    """``x * factor + offset`` by column."""

    factor: Dense
    offset: Dense

    def __call__(self, value: Matrix) -> Dense:
        return dense(value) * self.factor + self.offset


@dataclass(eq=False)
class Clip(Step, kind="clip"):
    """Every value cut to the bounds."""

    low: float
    high: float

    def __call__(self, value: Matrix) -> Dense:
        return np.clip(dense(value), self.low, self.high)


@dataclass(eq=False)
class Normalize(Step, kind="normalize"):
    """Each row divided by its norm ``l1``, ``l2`` or ``max``; a row of zeros stays."""

    norm: str

    def __call__(self, value: Matrix) -> Matrix:
        if isinstance(value, SparseRows):
            lengths = self._lengths(value)
            return value.with_values(value.values / lengths[value.rows()])
        matrix = dense(value)
        lengths = _LENGTHS[self.norm](matrix)
        lengths[lengths == 0.0] = 1.0
        return matrix / lengths[:, None]

    def _lengths(self, rows: SparseRows) -> Dense:
        sizes = np.abs(rows.values) if self.norm != "l2" else rows.values**2
        lengths: Dense = np.zeros(len(rows))
        if self.norm == "max":
            filled = np.flatnonzero(np.diff(rows.starts))
            if filled.size:
                lengths[filled] = np.maximum.reduceat(sizes, rows.starts[filled])
        else:
            # One after the other, as scikit-learn adds them up: a tree notices the last bit.
            lengths += np.bincount(rows.rows(), sizes, len(rows))
        lengths[lengths == 0.0] = 1.0
        return np.sqrt(lengths) if self.norm == "l2" else lengths


_LENGTHS: Final[Mapping[str, Callable[[Dense], Dense]]] = {
    "l1": lambda matrix: np.abs(matrix).sum(axis=1),
    "l2": lambda matrix: np.sqrt(np.einsum("ij,ij->i", matrix, matrix)),
    "max": lambda matrix: np.abs(matrix).max(axis=1),
}


@dataclass(eq=False)
class Binarize(Step, kind="binarize"):
    """1 where a value exceeds the threshold, else 0."""

    threshold: float

    def __call__(self, value: Matrix) -> Dense:
        return (dense(value) > self.threshold).astype(np.float64)


@dataclass(eq=False)
class Project(Step, kind="project"):
    """``((x - before) @ weights - after) / divisor``: what most decompositions are.

    ``before``, ``after`` and ``divisor`` may be None.
    """

    weights: Dense
    before: Dense | None = None
    after: Dense | None = None
    divisor: Dense | None = None

    def __call__(self, value: Matrix) -> Dense:
        projected = dot(value if self.before is None else dense(value) - self.before, self.weights)
        if self.after is not None:
            projected = projected - self.after
        return projected if self.divisor is None else projected / self.divisor


@dataclass(eq=False)
class YeoJohnson(Step, kind="yeo_johnson"):
    """The Yeo-Johnson power transformation, with one exponent per column."""

    lambdas: Dense

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        with np.errstate(over="ignore", invalid="ignore"):
            above = matrix >= 0
            size = np.log1p(np.abs(matrix))
            power = np.where(above, self.lambdas, 2 - self.lambdas)
            even = np.abs(power) < _TINY
            bent = np.expm1(power * size) / np.where(even, 1.0, power)
            moved = np.where(even, size, bent)
        return np.where(np.isnan(self.lambdas), matrix, np.where(above, moved, -moved))


_TINY: Final = float(np.spacing(1.0))


@dataclass(eq=False)
class Polynomial(Step, kind="polynomial"):
    """Products of columns: row ``i`` of ``powers`` has the exponents of output ``i``."""

    powers: NDArray[np.int64]
    _factors: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._factors = [
            [column for column, power in enumerate(row) for _ in range(power)]
            for row in self.powers.tolist()
        ]

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        result = np.ones((len(matrix), len(self._factors)))
        for place, factors in enumerate(self._factors):
            for column in factors:
                result[:, place] *= matrix[:, column]
        return result


@dataclass(eq=False)
class Bins(Step, kind="bins"):
    """The ordinal of the bin of each value; ``edges`` has the inner edges of each column."""

    edges: list[Dense]

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        result = np.empty_like(matrix)
        for column, edges in enumerate(self.edges):
            result[:, column] = np.searchsorted(edges, matrix[:, column], side="right")
        return result


@dataclass(eq=False)
class Quantiles(Step, kind="quantiles"):
    """The share of the training data below each value, or the normal quantile of that share.

    Column ``j`` of ``quantiles`` has the values that belong to the shares ``references``.
    """

    quantiles: Dense
    references: Dense
    normal: bool

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        shares = np.empty_like(matrix)
        for column, quantiles in enumerate(self.quantiles.T):
            numbers = matrix[:, column]
            # The mean of looking from both ends, which differ where a value occurs often.
            low = np.interp(numbers, quantiles, self.references)
            high = -np.interp(-numbers, -quantiles[::-1], -self.references[::-1])
            found = 0.5 * (low + high)
            margin = _QUANTILE_MARGIN if self.normal else 0.0
            found[(numbers + margin > quantiles[-1]) | (numbers == quantiles[-1])] = 1.0
            found[(numbers - margin < quantiles[0]) | (numbers == quantiles[0])] = 0.0
            shares[:, column] = found
        return self._normal(shares) if self.normal else shares

    @staticmethod
    def _normal(shares: Dense) -> Dense:
        end = _QUANTILE_MARGIN - _TINY
        inside = np.clip(shares, end, 1.0 - end)
        known = ~np.isnan(inside)
        inside[known] = [_NORMAL.inv_cdf(share) for share in inside[known].tolist()]
        return inside


_QUANTILE_MARGIN: Final = 1e-7
_NORMAL: Final = NormalDist()


@dataclass(eq=False)
class RefuseMissing(Step, kind="refuse_missing"):
    """The matrix as it is; ``Invalid`` if something in it is missing.

    Stands before steps to which scikit-learn would not give a NaN either.
    """

    def __call__(self, value: Matrix) -> Matrix:
        parts = value.parts if isinstance(value, SideBySide) else [value]
        for part in parts:
            numbers = part.values if isinstance(part, SparseRows) else part
            if np.isnan(numbers).any():
                raise Invalid("a value is missing that this model cannot do without")
        return value


@dataclass(eq=False)
class RefuseEndless(Step, kind="refuse_endless"):
    """The matrix as it is; ``Invalid`` if a number in it is infinite. Something may be missing."""

    def __call__(self, value: Dense) -> Dense:
        if np.isinf(value).any():
            raise Invalid("a value is too far out for this model")
        return value
