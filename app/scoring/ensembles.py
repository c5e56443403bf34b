"""Steps that ask several members and combine what they say."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.scoring.cores import Judged, Labels, logistic
from app.scoring.matrix import Dense
from app.scoring.step import Step


@dataclass(eq=False)
class Blend(Step, kind="blend"):
    """The weighted mean of what the members give: arrays of one shape.

    With ``weights`` None all count the same.
    """

    members: list[Step]
    weights: list[float] | None

    def __call__(self, value: Any) -> Dense:
        given = [member(value) for member in self.members]
        if self.weights is None:
            mean: Dense = sum(given[1:], given[0]) / len(given)
            return mean
        weighed = [part * weight for part, weight in zip(given, self.weights, strict=True)]
        total: Dense = sum(weighed[1:], weighed[0]) / sum(self.weights)
        return total


@dataclass(eq=False)
class Shares(Step, kind="shares"):
    """A judgement to probabilities of ``classes`` classes, of which the member knows ``places``.

    A member without probabilities gives 1 to the class that it chose.
    """

    places: list[int]
    classes: int

    def __call__(self, value: Judged) -> Dense:
        if value.probabilities is not None and len(self.places) == self.classes:
            return value.probabilities
        shares = np.zeros((len(value.labels), self.classes))
        if value.probabilities is None:
            shares[np.arange(len(shares)), np.array(self.places)[value.labels]] = 1.0
        else:
            shares[:, self.places] = value.probabilities
        return shares


@dataclass(eq=False)
class Majority(Step, kind="majority"):
    """The class that most members choose, each with its weight; among equals the first."""

    members: list[Step]
    weights: list[float] | None
    classes: int

    def __call__(self, value: Any) -> Judged:
        votes = np.zeros((len(value), self.classes))
        every = np.arange(len(votes))
        for place, member in enumerate(self.members):
            weight = 1.0 if self.weights is None else self.weights[place]
            votes[every, member(value).labels] += weight
        return Judged(votes.argmax(axis=1), None, votes)


@dataclass(eq=False)
class Opinion(Step, kind="opinion"):
    """A judgement to the columns that a later estimator takes from it.

    ``use`` is probabilities, second (of two classes), decision or labels.
    """

    use: str

    def __call__(self, value: Judged) -> Dense:
        if self.use == "labels":
            return value.labels[:, None].astype(np.float64)
        if self.use == "decision" or value.probabilities is None:
            return value.decision if value.decision.ndim > 1 else value.decision[:, None]
        return value.probabilities[:, 1:] if self.use == "second" else value.probabilities


@dataclass(eq=False)
class Calibrate(Step, kind="calibrate"):
    """Scores, one column per calibrator, to calibrated probabilities of ``classes`` classes.

    Calibrator ``i`` makes the probability of class ``places[i]``: a logistic curve of ``slopes[i]``
    and ``offsets[i]``, or, where there are ``knots``, the line through ``knots[i]`` and
    ``heights[i]``. Two classes have one calibrator, more are divided by their sum.
    """

    places: list[int]
    classes: int
    slopes: list[float]
    offsets: list[float]
    knots: list[Dense]
    heights: list[Dense]

    def __call__(self, value: Dense) -> Dense:
        shares = np.zeros((len(value), self.classes))
        for number, place in enumerate(self.places):
            shares[:, place] = self._calibrated(number, value[:, number])
        if self.classes == 2:
            shares[:, 0] = 1.0 - shares[:, 1]
        else:
            sums = shares.sum(axis=1, keepdims=True)
            even = np.full_like(shares, 1 / self.classes)
            shares = np.divide(shares, sums, out=even, where=sums != 0)
        shares[(shares > 1.0) & (shares <= 1.0 + 1e-5)] = 1.0
        return shares

    def _calibrated(self, number: int, scores: Dense) -> Dense:
        if not self.knots:
            return logistic(-(self.slopes[number] * scores + self.offsets[number]))
        return np.interp(scores, self.knots[number], self.heights[number])


@dataclass(eq=False)
class PairVotes(Step, kind="pair_votes"):
    """Scores of all pairs of classes (0-1, 0-2, .., 1-2, ..) to the class that wins most pairs."""

    classes: int

    def __call__(self, value: Dense) -> Judged:
        votes = np.zeros((len(value), self.classes))
        pairs = [(i, j) for i in range(self.classes) for j in range(i + 1, self.classes)]
        for number, (first, second) in enumerate(pairs):
            won = value[:, number] > 0
            votes[:, first] += won
            votes[:, second] += ~won
        labels: Labels = votes.argmax(axis=1)
        return Judged(labels, None, np.where(np.isnan(value[:, :1]), np.nan, votes))
