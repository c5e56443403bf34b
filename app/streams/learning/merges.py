"""How the answers of a batch model and of an incremental learner become one.

An answer is a mapping of label to probability (classification) or a number (regression).

==============  ================================================================================
``blend``       the mean of both: of the logits, or of the numbers
``hedge``       a mixture, weighted by how well each has foretold so far
``residual``    the batch model's answer, corrected by what a learner knows of its errors
``warm_start``  the learner alone, which has seen all that the batch model has seen, and more
==============  ================================================================================
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from app.scoring.online import LEAST_SHARE, softmax

BLEND: Final = "blend"
HEDGE: Final = "hedge"
RESIDUAL: Final = "residual"
WARM_START: Final = "warm_start"
MERGES: Final = (BLEND, HEDGE, RESIDUAL, WARM_START)

# What each layer's weight keeps from falling below, so that it can come back (fixed share).
_SHARE: Final = 0.001

Answer = Mapping[str, float] | float


def blended(batch: Answer, speed: Answer) -> Answer:
    """The mean of the logits of two classifiers, or of two numbers.

    A label that one of them doesn't know has the least share there.
    """
    if isinstance(batch, Mapping) and isinstance(speed, Mapping):
        labels = _labels(batch, speed)
        logits = [(_logit(batch, label) + _logit(speed, label)) / 2 for label in labels]
        return dict(zip(labels, softmax(logits), strict=True))
    return (_number(batch) + _number(speed)) / 2


def mixed(batch: Answer, speed: Answer, weight: float) -> Answer:
    """The mixture in which the batch model's answer has this weight."""
    if isinstance(batch, Mapping) and isinstance(speed, Mapping):
        return {
            label: weight * batch.get(label, 0.0) + (1.0 - weight) * speed.get(label, 0.0)
            for label in _labels(batch, speed)
        }
    return weight * _number(batch) + (1.0 - weight) * _number(speed)


def averaged(answers: Sequence[Answer], weights: Sequence[float]) -> Answer:
    """The weighted mean of the logits, or of the numbers, of several learners."""
    total = math.fsum(weights)
    first = answers[0]
    if not isinstance(first, Mapping):
        pairs = zip(answers, weights, strict=True)
        return math.fsum(_number(answer) * weight for answer, weight in pairs) / total
    labels: list[str] = []
    maps = [answer for answer in answers if isinstance(answer, Mapping)]
    for answer in maps:
        labels = _labels(dict.fromkeys(labels, 0.0), answer)
    logits = [
        math.fsum(_logit(answer, label) * w for answer, w in zip(maps, weights, strict=True))
        / total
        for label in labels
    ]
    return dict(zip(labels, softmax(logits), strict=True))


class Hedge:
    """Exponential weights of two forecasters by their losses, each at least a small share."""

    __slots__ = ("weight",)

    def __init__(self, weight: float = 0.5) -> None:
        self.weight = weight

    def learn(self, batch_loss: float, speed_loss: float) -> None:
        """Take in what each has lost on one label: log-loss, or anything like it."""
        batch = self.weight * math.exp(min(speed_loss - batch_loss, 0.0))
        speed = (1.0 - self.weight) * math.exp(min(batch_loss - speed_loss, 0.0))
        self.weight = (1.0 - _SHARE) * batch / (batch + speed) + _SHARE / 2


def _labels(first: Mapping[str, float], second: Mapping[str, float]) -> list[str]:
    return [*first, *(label for label in second if label not in first)]


def _logit(answer: Mapping[str, float], label: str) -> float:
    return math.log(max(answer.get(label, 0.0), LEAST_SHARE))


def _number(answer: Answer) -> float:
    if isinstance(answer, Mapping):
        raise TypeError("a number was expected")
    return answer
