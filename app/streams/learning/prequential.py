"""How well a layer foretells: each answer is judged by its label before anyone learns from it.

Metrics of partitions add up. The AUC is an estimate from two histograms of the scores, which is
exact but for ties within one of their bins; only for two classes.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from app.scoring.online import CLASSIFICATION, LEAST_SHARE
from app.streams.learning.merges import Answer

BINS: Final = 200
# Log-losses from here on look alike to the watch over drift, which wants numbers in 0..1.
_WIDEST_LOSS: Final = 4.0


class Prequential:
    """The metrics of one layer: log-loss, accuracy and AUC, or MAE and RMSE."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.count = 0
        self.loss = 0.0
        self.hits = 0.0
        self.labels: list[str] = []
        self.bins = [[0] * BINS, [0] * BINS]

    def add(self, answer: Answer, target: Any) -> float:
        """Judge an answer given before its label was known; gives its loss.

        The log-loss, or for a number the absolute error. ``target`` of a classification is the
        label's text.
        """
        self.count += 1
        if isinstance(answer, Mapping):
            loss = -math.log(max(answer.get(target, 0.0), LEAST_SHARE))
            self.loss += loss
            self.hits += max(answer, key=answer.__getitem__, default=None) == target
            self._rank(answer, target)
            return loss
        error = abs(answer - float(target))
        self.loss += error
        self.hits += error * error
        return error

    def _rank(self, answer: Mapping[str, float], target: str) -> None:
        for label in (target, *answer):
            if label not in self.labels and len(self.labels) < 3:
                self.labels = sorted([*self.labels, label])
        if len(self.labels) == 2:
            score = answer.get(self.labels[1], 0.0)
            place = min(max(int(score * BINS), 0), BINS - 1)
            self.bins[target == self.labels[1]][place] += 1

    def metrics(self) -> dict[str, float | int | None]:
        """What there is to tell, by name; None: nothing has been judged."""
        count = self.count
        loss, hits = (self.loss / count, self.hits / count) if count else (None, None)
        if self.task == CLASSIFICATION:
            return {"count": count, "log_loss": loss, "accuracy": hits, "roc_auc": self._auc()}
        rmse = None if hits is None else math.sqrt(hits)
        return {"count": count, "mae": loss, "rmse": rmse}

    def _auc(self) -> float | None:
        if len(self.labels) != 2:
            return None
        against, towards = self.bins
        pairs, below, won = sum(against) * sum(towards), 0, 0.0
        if not pairs:
            return None
        for lesser, greater in zip(against, towards, strict=True):
            won += greater * (below + lesser / 2)
            below += lesser
        return won / pairs

    def include(self, other: "Prequential") -> None:
        """Add the metrics of another partition; no AUC unless both judge the same labels."""
        alike = other.labels == self.labels or not self.count
        self.count += other.count
        self.loss += other.loss
        self.hits += other.hits
        if not other.count:
            return
        self.labels = list(other.labels) if alike else ["", "", ""]
        for bins, more in zip(self.bins, other.bins, strict=True):
            bins[:] = [one + another for one, another in zip(bins, more, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON knows it."""
        return {
            "task": self.task,
            "count": self.count,
            "loss": self.loss,
            "hits": self.hits,
            "labels": self.labels,
            "bins": self.bins,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Prequential":
        """The metrics that ``as_dict`` told."""
        found = cls(told["task"])
        found.count, found.loss, found.hits = told["count"], told["loss"], told["hits"]
        found.labels, found.bins = list(told["labels"]), [list(bins) for bins in told["bins"]]
        return found


def drift_signal(loss: float) -> float:
    """A loss as a number in 0..1 for the watch over drift."""
    return min(loss, _WIDEST_LOSS) / _WIDEST_LOSS
