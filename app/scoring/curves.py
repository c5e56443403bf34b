"""Steps that expand columns into many: B-splines, and sketches of polynomials."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.scoring.matrix import Dense, Matrix, dense
from app.scoring.step import Step


@dataclass(eq=False)
class Splines(Step, kind="splines"):
    """The B-splines of each column, ``width`` of them; what is missing becomes zeros.

    Row ``i`` of ``knots`` are the knots of column ``i``. ``outside`` tells what happens beyond
    them: continue (the outermost polynomials go on), periodic, or edges: there the splines go on
    from ``edges[i]`` with the values ``values[i]`` and the slopes ``slopes[i]``, at the lower and
    at the upper end.
    """

    knots: Dense
    degree: int
    outside: str
    width: int
    edges: Dense
    values: Dense
    slopes: Dense

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [self._column(number, matrix[:, number]) for number in range(len(self.knots))]
        return np.concatenate(parts, axis=1)

    def _column(self, number: int, numbers: Dense) -> Dense:
        knots = self.knots[number]
        splines = len(knots) - self.degree - 1
        result = np.zeros((len(numbers), max(splines, self.width)))
        known = ~np.isnan(numbers)
        if self.outside == "edges":
            low, high = self.edges[number]
            below, above = numbers < low, numbers > high
            known &= ~below & ~above
            for end, rows, edge in ((0, below, low), (1, above, high)):
                apart = (numbers[rows] - edge)[:, None]
                going_on = self.values[number, end] + apart * self.slopes[number, end]
                result[rows, : going_on.shape[1]] = going_on
        inside = numbers[known]
        if self.outside == "periodic":
            first, last = knots[self.degree], knots[splines]
            inside = first + (inside - first) % (last - first) if last > first else inside * 0.0
            wrapped = splines - self.degree
        else:
            wrapped = splines
        starts, bases = basis(knots, self.degree, inside)
        rows = np.flatnonzero(known)
        for place in range(self.degree + 1):
            result[rows, (starts + place) % wrapped] += bases[:, place]
        return result[:, : self.width]


def basis(knots: Dense, degree: int, numbers: Dense) -> tuple[NDArray[np.int64], Dense]:
    """The first of the splines that are not 0 at each number, and the values of all that aren't.

    De Boor's recursion in the order of scipy, so that they agree to the last bit.
    """
    last = len(knots) - degree - 2
    spans = np.clip(np.searchsorted(knots, numbers, side="right") - 1, degree, last)
    values = np.zeros((len(numbers), degree + 1))
    values[:, 0] = 1.0
    for size in range(1, degree + 1):
        before = values[:, :size].copy()
        values[:, 0] = 0.0
        for place in range(1, size + 1):
            right = knots[spans + place]
            left = knots[spans + place - size]
            gap = np.where(right == left, 1.0, right - left)
            share = np.where(right == left, 0.0, before[:, place - 1] / gap)
            values[:, place - 1] += share * (right - numbers)
            values[:, place] = share * (numbers - left)
    return spans - degree, values


@dataclass(eq=False)
class Sketch(Step, kind="sketch"):
    """A sketch of the polynomial kernel: the count sketches of each factor, convolved.

    Factor ``d`` adds column ``j``, times ``signs[d, j]``, to output ``places[d, j]``; the columns
    are scaled by ``scale`` and have a constant ``bias`` after them, if there are signs for it.
    """

    places: NDArray[np.int64]
    signs: Dense
    scale: float
    bias: float
    outputs: int

    def __call__(self, value: Matrix) -> Dense:
        matrix = self.scale * dense(value)
        if self.places.shape[1] > matrix.shape[1]:
            constant = np.full((len(matrix), 1), self.bias)
            matrix = np.concatenate([matrix, constant], axis=1)
        sketches = np.zeros((len(matrix), len(self.places), self.outputs))
        for column, numbers in enumerate(matrix.T):
            for factor in range(len(self.places)):
                place, sign = self.places[factor, column], self.signs[factor, column]
                sketches[:, factor, place] += sign * numbers
        product = np.prod(np.fft.fft(sketches, axis=2), axis=1)
        sketch: Dense = np.real(np.fft.ifft(product))
        return sketch
