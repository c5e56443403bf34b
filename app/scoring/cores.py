"""Steps from a matrix to scores, and the rules by which scores become labels and probabilities.

A classifier ends in ``Judged``. Labels come from the scores, by the very rule of scikit-learn's
estimator, never from probabilities that rounding has made equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.scoring.matrix import Dense, Matrix, dense, dot
from app.scoring.step import Step

Labels = NDArray[np.int64]


class Judged(NamedTuple):
    """What a classifier makes of some rows.

    ``labels`` are positions in its classes; ``probabilities`` have a column per class, or are None
    where the classifier has none; ``decision`` are the scores behind, (rows,) for two classes.
    """

    labels: Labels
    probabilities: Dense | None
    decision: Dense


def logistic(scores: Dense) -> Dense:
    """1 / (1 + exp(-x)), without overflow."""
    shrunk = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0, shrunk) / (1.0 + shrunk)


def softmax(scores: Dense) -> Dense:
    """Exponentials that add up to 1 in each row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Dense = powers / powers.sum(axis=1, keepdims=True)
    return shares


def likelihoods(scores: Dense) -> Dense:
    """Softmax by way of logarithms, to the last bit as ``scipy.special.logsumexp`` makes it.

    Naive Bayes is sure of most rows. Where its 1 is a bit below 1, another member of an ensemble
    that is as sure of another class would win.
    """
    greatest = scores.max(axis=1, keepdims=True)
    best = scores == greatest
    ties = best.sum(axis=1, keepdims=True, dtype=np.float64)
    rest = np.where(best, 0.0, np.exp(scores - greatest)).sum(axis=1, keepdims=True)
    shares: Dense = np.exp(scores - (np.log1p(rest / ties) + np.log(ties) + greatest))
    return shares


def _shares(scores: Dense) -> Dense:
    """Each row divided by its sum; a row of zeros becomes uniform."""
    sums = scores.sum(axis=1, keepdims=True)
    return np.where(sums == 0, 1.0 / scores.shape[1], scores / np.where(sums == 0, 1.0, sums))


def _clipped(scores: Dense) -> Dense:
    clipped: Dense = (np.clip(scores, -1, 1) + 1) / 2
    return clipped


_OF_ONE: Final[Mapping[str, Callable[[Dense], Dense]]] = {
    "logistic": logistic,
    "clipped": _clipped,
    "identity": lambda scores: scores,
}
_OF_MANY: Final[Mapping[str, Callable[[Dense], Dense]]] = {
    "softmax": softmax,
    "likelihoods": likelihoods,
    "one_vs_rest": lambda scores: _shares(logistic(scores)),
    "clipped": lambda scores: _shares(_clipped(scores)),
    "identity": lambda scores: scores,
}


@dataclass(eq=False)
class Affine(Step, kind="affine"):
    """``x @ weights + bias``: (rows, outputs)."""

    weights: Dense
    bias: Dense

    def __call__(self, value: Matrix) -> Dense:
        return dot(value, self.weights) + self.bias


@dataclass(eq=False)
class JudgeTwo(Step, kind="judge_two"):
    """One score a row, (rows, 1), to two classes.

    ``link`` makes the probability of the second class: logistic, clipped (of modified Huber loss),
    identity, or None for no probabilities. The second class is chosen where the score (with
    ``by_probability``, that probability) is above ``threshold``, or equal to it if ``inclusive``.
    """

    link: str | None
    factor: float = 1.0
    threshold: float = 0.0
    inclusive: bool = False
    by_probability: bool = False

    def __call__(self, value: Dense) -> Judged:
        scores = value[:, 0]
        second = None if self.link is None else _OF_ONE[self.link](scores * self.factor)
        judged = second if self.by_probability and second is not None else scores
        chosen = judged >= self.threshold if self.inclusive else judged > self.threshold
        both = None if second is None else np.stack([1 - second, second], axis=1)
        return Judged(chosen.astype(np.int64), both, scores)


@dataclass(eq=False)
class JudgeMany(Step, kind="judge_many"):
    """A score per class, (rows, classes), to the class with the greatest.

    ``link`` makes the probabilities: softmax, likelihoods, one_vs_rest (logistic, then shares),
    clipped, identity (they are the scores), or None; it is given the scores times ``factor``.
    """

    link: str | None
    factor: float = 1.0

    def __call__(self, value: Dense) -> Judged:
        scores = value if self.factor == 1.0 else value * self.factor
        probabilities = None if self.link is None else _OF_MANY[self.link](scores)
        return Judged(value.argmax(axis=1), probabilities, value)


@dataclass(eq=False)
class Rejudge(Step, kind="rejudge"):
    """A judgement to one with a threshold of its own on the score of one class of two.

    ``positive`` is the position of that class; ``by`` tells what is compared with the threshold:
    probabilities, or decision.
    """

    threshold: float
    positive: int
    by: str

    def __call__(self, value: Judged) -> Judged:
        if self.by == "decision" or value.probabilities is None:
            score = value.decision if self.positive == 1 else -value.decision
        else:
            score = value.probabilities[:, self.positive]
        above = score >= self.threshold
        labels = np.where(above, self.positive, 1 - self.positive)
        return Judged(labels, value.probabilities, value.decision)


@dataclass(eq=False)
class Values(Step, kind="values"):
    """(rows, 1) to one number a row, by a function: identity, exp, expm1 or logistic."""

    function: str = "identity"

    def __call__(self, value: Matrix) -> Dense:
        numbers = dense(value)[:, 0]
        if self.function == "identity":
            return numbers
        with np.errstate(over="ignore"):
            return _FUNCTIONS[self.function](numbers)


_FUNCTIONS: Final[Mapping[str, Callable[[Dense], Dense]]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "logistic": logistic,
}


@dataclass(eq=False)
class Column(Step, kind="column"):
    """One number a row, (rows,), to a matrix of one column."""

    def __call__(self, value: Dense) -> Dense:
        return value[:, None]


@dataclass(eq=False)
class Constant(Step, kind="constant"):
    """The same numbers for every row: (rows, outputs)."""

    numbers: Dense

    def __call__(self, value: Any) -> Dense:
        return np.repeat(self.numbers[None, :], len(value), axis=0)


@dataclass(eq=False)
class Perceptron(Step, kind="perceptron"):
    """The layers of a multilayer perceptron; the last one without its activation."""

    weights: list[Dense]
    biases: list[Dense]
    activation: str

    def __call__(self, value: Matrix) -> Dense:
        activate = ACTIVATIONS[self.activation]
        layer = dot(value, self.weights[0]) + self.biases[0]
        for weights, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            layer = activate(layer) @ weights + bias
        return layer


ACTIVATIONS: Final[Mapping[str, Callable[[Dense], Dense]]] = {
    "identity": lambda layer: layer,
    "relu": lambda layer: np.maximum(layer, 0.0),
    "tanh": np.tanh,
    "logistic": logistic,
}


@dataclass(eq=False)
class NormalLikelihood(Step, kind="normal_likelihood"):
    """The joint log-likelihood of independent normal distributions, a column per class.

    ``means`` and ``variances`` have a row per class; ``constants`` what doesn't depend on the row.
    """

    means: Dense
    variances: Dense
    constants: Dense

    def __call__(self, value: Matrix) -> Dense:
        apart = dense(value)[:, None, :] - self.means
        distances: Dense = (apart**2 / self.variances).sum(axis=2)
        return self.constants - 0.5 * distances


@dataclass(eq=False)
class Mixture(Step, kind="mixture"):
    """Log-likelihoods of normal distributions with full covariance, a column per component.

    ``roots`` are (components, columns, outputs): the distance is that of ``(x - mean) @ root``.
    """

    means: Dense
    roots: Dense
    constants: Dense

    def __call__(self, value: Matrix) -> Dense:
        matrix = dense(value)
        scores = np.empty((len(matrix), len(self.means)))
        for place, (mean, root) in enumerate(zip(self.means, self.roots, strict=True)):
            scores[:, place] = (((matrix - mean) @ root) ** 2).sum(axis=1)
        return self.constants - 0.5 * scores


@dataclass(eq=False)
class Greatest(Step, kind="greatest"):
    """The position of the greatest score of each row."""

    def __call__(self, value: Dense) -> Labels:
        best: Labels = value.argmax(axis=1)
        return best


@dataclass(eq=False)
class Nearest(Step, kind="nearest"):
    """The position of the centre that is nearest to each row."""

    centers: Dense
    _norms: Dense = field(init=False)

    def __post_init__(self) -> None:
        self._norms = (self.centers**2).sum(axis=1)

    def __call__(self, value: Matrix) -> Labels:
        best: Labels = (self._norms - 2.0 * dot(value, self.centers.T)).argmin(axis=1)
        return best
