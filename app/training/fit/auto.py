"""The model that a user gets without naming one, and an account of how it was chosen.

Classification: gradient-boosted trees and logistic regression, blended (``auto_blend``).
Regression: gradient-boosted trees; on small tables blended with ridge regression, which the trees
need there; on larger ones alone, since a linear member may follow an outlier anywhere.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import silhouette_score

from app.training.fit.blend import STOPS_EARLY_FROM, Blending, Chosen
from app.training.fit.columns import Columns

MOST_CLUSTERS: Final = 10
CLUSTER_ROWS: Final = 2000
VARIANCE_KEPT: Final = 0.95
OUTLIERS: Final = 0.05
"""The forest's own threshold called half of the rows of some tables unusual."""


@dataclass(frozen=True)
class AutoModel:
    """Chooses models for one run; the fields are those of ``Blending``."""

    columns: Columns
    task: str
    rows: int
    random_state: int
    moments: NDArray[Any] | None = None
    _blending: Blending = field(init=False)

    def __post_init__(self) -> None:
        blending = Blending(self.columns, self.task, self.rows, self.random_state, self.moments)
        object.__setattr__(self, "_blending", blending)

    def choose(self, frame: pd.DataFrame, target: NDArray[Any] | None) -> Chosen:
        """The model for these rows, which are all training rows."""
        if target is not None:
            if self.task == "classification" or len(target) < STOPS_EARLY_FROM:
                return self._blending.choose(frame, target)
            return Chosen(self._blending.trees(frame, target), {"chosen": "trees alone"})
        if self.task == "clustering":
            return self._clusters(frame)
        if self.task == "outlier_detection":
            forest = IsolationForest(contamination=OUTLIERS, random_state=self.random_state)
            account = {"chosen": "isolation forest", "contamination": OUTLIERS}
            return Chosen(self._blending.behind(forest, frame, trees=True), account)
        components = PCA(n_components=VARIANCE_KEPT, random_state=self.random_state)
        account = {"chosen": "principal components", "variance_kept": VARIANCE_KEPT}
        return Chosen(self._blending.behind(components, frame, trees=False), account)

    def _clusters(self, frame: pd.DataFrame) -> Chosen:
        """K-means with the number of clusters whose silhouette is best on a sample."""
        random = np.random.default_rng(self.random_state)
        size = min(len(frame), CLUSTER_ROWS)
        sample = frame.iloc[np.sort(random.choice(len(frame), size, replace=False))]
        probe = self._blending.behind(KMeans(), sample, trees=False)["prepare"]
        matrix = probe.fit_transform(sample)
        scores: dict[int, float] = {}
        for clusters in range(2, min(MOST_CLUSTERS, size - 1) + 1):
            labels = self._k_means(clusters).fit_predict(matrix)
            if 1 < len(np.unique(labels)) < size:
                scores[clusters] = round(float(silhouette_score(matrix, labels)), 4)
        best = max(scores, key=lambda clusters: scores[clusters], default=1)
        told = {str(clusters): score for clusters, score in scores.items()}
        account = {"chosen": "k-means", "clusters": best, "silhouette": told, "rows": size}
        return Chosen(self._blending.behind(self._k_means(best), frame, trees=False), account)

    def _k_means(self, clusters: int) -> KMeans:
        return KMeans(n_clusters=clusters, n_init=10, random_state=self.random_state)
