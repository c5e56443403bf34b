"""What a model says about some rows, in arrays; the same from either engine."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.scoring.frame import as_text

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """One answer per row; which arrays there are depends on the task, the others are None.

    =================  ============================================================================
    classification     ``labels`` (rows,): positions in ``classes``; ``probabilities``
                       (rows, classes), or None where the model has none
    regression         ``values`` (rows,)
    clustering         ``clusters`` (rows,): numbers of clusters
    outlier_detection  ``outliers`` (rows,) bool; ``unusual`` (rows,): the decision function of
                       scikit-learn, negated: the greater, the more unusual; above 0 an outlier
    decomposition      ``components`` (rows, components)
    =================  ============================================================================
    """

    task: str
    classes: Sequence[Any] = ()
    labels: Array | None = None
    probabilities: Array | None = None
    values: Array | None = None
    clusters: Array | None = None
    outliers: Array | None = None
    unusual: Array | None = None
    components: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays().values())))

    def arrays(self) -> dict[str, Array]:
        """The arrays that there are, by name."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: array for name, array in named if isinstance(array, np.ndarray)}

    def rows(self) -> list[dict[str, Any]]:
        """One JSON object per row, as they go over the wire."""
        if self.labels is not None:
            return self._judgements(self.labels)
        if self.values is not None:
            return [{"value": value} for value in self.values.tolist()]
        if self.clusters is not None:
            return [{"cluster": cluster} for cluster in self.clusters.tolist()]
        if self.outliers is not None and self.unusual is not None:
            pairs = zip(self.outliers.tolist(), self.unusual.tolist(), strict=True)
            return [{"outlier": outlier, "score": unusual} for outlier, unusual in pairs]
        return [{"components": row} for row in self.arrays()["components"].tolist()]

    def _judgements(self, labels: Array) -> list[dict[str, Any]]:
        told = [{"label": self.classes[place]} for place in labels.tolist()]
        if self.probabilities is not None:
            names = [as_text(name) for name in self.classes]
            for row, shares in zip(told, self.probabilities.tolist(), strict=True):
                row["probabilities"] = dict(zip(names, shares, strict=True))
        return told


def joined(parts: Sequence[Scores]) -> Scores:
    """The answers for several lots of rows of one model as one."""
    if len(parts) == 1:
        return parts[0]
    arrays = {
        name: np.concatenate([part.arrays()[name] for part in parts]) for name in parts[0].arrays()
    }
    return Scores(parts[0].task, parts[0].classes, **arrays)
