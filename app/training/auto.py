"""The model that a user gets without naming one, and how it was chosen.

Classification: gradient-boosted trees and a regularised logistic regression, each with its own
view of the columns, blended by weights. Strength of the regularisation and weights are those with
the least log loss on rows that the members weren't fitted on: three folds, each after the rows it
was fitted on where the model is judged in time. A member that adds nothing is left out.
Regression: gradient-boosted trees alone, since a linear member may follow an outlier anywhere.
Classes are never reweighted: that ruins the probabilities.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, silhouette_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from app.training.fit_columns import Columns
from app.training.preparation import View, column_transformer

Array = NDArray[Any]

FOLDS: Final = 3
TRIAL_ROWS: Final = 20_000
"""Strength and weights are chosen on at most so many rows; the members are fitted on all."""
STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
WEIGHTS: Final = tuple(step / 20 for step in range(21))
NEGLIGIBLE: Final = 0.05
ROUNDS: Final = 400
TREES: Final = 2400
"""Boosting grows a tree a class and round; many classes get fewer rounds."""
FEWEST_ROUNDS: Final = 60
STOPS_EARLY_FROM: Final = 2000
FEWEST_TO_STOP_EARLY: Final = 10
SMALL_TABLE: Final = 5000
MOST_CLUSTERS: Final = 10
CLUSTER_ROWS: Final = 2000
VARIANCE_KEPT: Final = 0.95
OUTLIERS: Final = 0.05
"""The forest's own threshold called half of the rows of some tables unusual."""


@dataclass(frozen=True)
class Chosen:
    """An unfitted pipeline, and in JSON why it is this one."""

    model: BaseEstimator
    account: dict[str, Any]


class AutoModel:
    """Chooses models for the columns of one run.

    ``moments`` is set where the model is judged in time: when each row of the run happened.
    Frames are told apart by their index, which holds row numbers of the run.
    """

    def __init__(
        self,
        columns: Columns,
        task: str,
        rows: int,
        random_state: int,
        moments: Array | None = None,
    ) -> None:
        self._columns = columns
        self._task = task
        self._rows = rows
        self._moments = moments
        self._random_state = random_state

    def choose(self, frame: pd.DataFrame, target: Array | None) -> Chosen:
        """The model for these rows, which are all training rows."""
        if self._task == "classification" and target is not None:
            return self._blend(frame, target)
        if self._task == "regression":
            params = _boosting(len(frame), self._random_state, stop_early=True)
            boosted = HistGradientBoostingRegressor(**params)
            return Chosen(self._behind(boosted, frame, trees=True), {"chosen": "gradient boosting"})
        if self._task == "clustering":
            return self._clusters(frame)
        if self._task == "outlier_detection":
            forest = IsolationForest(contamination=OUTLIERS, random_state=self._random_state)
            account = {"chosen": "isolation forest", "contamination": OUTLIERS}
            return Chosen(self._behind(forest, frame, trees=True), account)
        components = PCA(n_components=VARIANCE_KEPT, random_state=self._random_state)
        account = {"chosen": "principal components", "variance_kept": VARIANCE_KEPT}
        return Chosen(self._behind(components, frame, trees=False), account)

    def _behind(self, model: BaseEstimator, frame: pd.DataFrame, *, trees: bool) -> Pipeline:
        """A pipeline for these rows: the preparation that suits the model, and the model."""
        view = View.for_estimators(
            [model],
            trees=trees,
            task=self._task,
            rows=self._rows,
            random_state=self._random_state,
        )
        prepare = column_transformer(self._columns.known_in(frame), view)
        return Pipeline([("prepare", prepare), ("model", model)])

    def _blend(self, frame: pd.DataFrame, target: Array) -> Chosen:
        trial = _sample(target, TRIAL_ROWS, self._random_state)
        tried = self._trial(frame.iloc[trial], target[trial])
        trees = self._trees(frame, target)
        linear = self._linear(frame, tried.strength)
        account = {
            "chosen": "blend",
            "strength": tried.strength,
            "weights": {"trees": tried.weight, "linear": round(1 - tried.weight, 2)},
            "log_loss": tried.losses,
            "rows": len(trial),
        }
        if tried.weight < NEGLIGIBLE:
            return Chosen(linear, {**account, "chosen": "linear alone"})
        if tried.weight > 1 - NEGLIGIBLE:
            return Chosen(trees, {**account, "chosen": "trees alone"})
        weights = [tried.weight, round(1 - tried.weight, 2)]
        members = [("trees", trees), ("linear", linear)]
        blend = VotingClassifier(members, voting="soft", weights=weights, flatten_transform=False)
        return Chosen(blend, account)

    def _trees(self, frame: pd.DataFrame, target: Array) -> Pipeline:
        classes, counts = np.unique(target, return_counts=True)
        enough = int(counts.min()) >= FEWEST_TO_STOP_EARLY
        params = _boosting(len(target), self._random_state, stop_early=enough)
        if len(classes) > 2:
            params["max_iter"] = max(FEWEST_ROUNDS, min(ROUNDS, TREES // len(classes)))
        return self._behind(HistGradientBoostingClassifier(**params), frame, trees=True)

    def _linear(self, frame: pd.DataFrame, strength: float) -> Pipeline:
        model = LogisticRegression(C=strength, max_iter=1000)
        return self._behind(model, frame, trees=False)

    def _trial(self, frame: pd.DataFrame, target: Array) -> "Trial":
        """Try all strengths and weights on rows that the members weren't fitted on."""
        classes = np.unique(target)
        folds = list(self._folds(frame, target))
        by_trees = np.zeros((len(target), len(classes)))
        by_linear = np.zeros((len(STRENGTHS), len(target), len(classes)))
        with warnings.catch_warnings():
            # What the final fit has to say is reported; a fold of it says nothing more.
            warnings.simplefilter("ignore")
            for train, test in folds:
                known = np.searchsorted(classes, np.unique(target[train]))
                rows, held_out = frame.iloc[train], frame.iloc[test]
                trees = self._trees(rows, target[train]).fit(rows, target[train])
                by_trees[np.ix_(test, known)] = trees.predict_proba(held_out)
                prepare = self._linear(rows, 1.0)["prepare"]
                matrix = prepare.fit_transform(rows, target[train])
                unseen = prepare.transform(held_out)
                for place, strength in enumerate(STRENGTHS):
                    linear = self._linear(rows, strength)["model"].fit(matrix, target[train])
                    by_linear[place][np.ix_(test, known)] = linear.predict_proba(unseen)
        tested = np.sort(np.concatenate([test for _, test in folds]))
        return _best(classes, target[tested], by_trees[tested], by_linear[:, tested])

    def _folds(self, frame: pd.DataFrame, target: Array) -> Iterable[tuple[Array, Array]]:
        """Training and test rows; in time, each fold is tested on what came next."""
        if self._moments is not None:
            order = np.argsort(self._moments[frame.index], kind="stable")
            blocks = np.array_split(order, FOLDS + 1)
            if len(np.unique(target[blocks[0]])) == len(np.unique(target)):
                return [(np.concatenate(blocks[:k]), blocks[k]) for k in range(1, FOLDS + 1)]
        smallest = int(np.unique(target, return_counts=True)[1].min())
        folds = (StratifiedKFold if smallest >= FOLDS else KFold)(
            FOLDS, shuffle=True, random_state=self._random_state
        )
        split: Iterable[tuple[Array, Array]] = folds.split(np.zeros(len(target)), target)
        return split

    def _clusters(self, frame: pd.DataFrame) -> Chosen:
        """K-means with the number of clusters whose silhouette is best on a sample."""
        random = np.random.default_rng(self._random_state)
        size = min(len(frame), CLUSTER_ROWS)
        rows = np.sort(random.choice(len(frame), size, replace=False))
        sample = frame.iloc[rows]
        probe = self._behind(KMeans(), sample, trees=False)["prepare"]
        matrix = probe.fit_transform(sample)
        scores: dict[int, float] = {}
        for clusters in range(2, min(MOST_CLUSTERS, size - 1) + 1):
            labels = self._k_means(clusters).fit_predict(matrix)
            if 1 < len(np.unique(labels)) < size:
                scores[clusters] = round(float(silhouette_score(matrix, labels)), 4)
        best = max(scores, key=lambda clusters: scores[clusters], default=1)
        told = {str(clusters): score for clusters, score in scores.items()}
        account = {"chosen": "k-means", "clusters": best, "silhouette": told, "rows": size}
        return Chosen(self._behind(self._k_means(best), frame, trees=False), account)

    def _k_means(self, clusters: int) -> KMeans:
        return KMeans(n_clusters=clusters, n_init=10, random_state=self._random_state)


@dataclass(frozen=True)
class Trial:
    """The best strength of the linear member, weight of the trees, and all log losses."""

    strength: float
    weight: float
    losses: dict[str, float]


def _best(classes: Array, target: Array, by_trees: Array, by_linear: Array) -> Trial:
    linear_losses = [_loss(classes, target, tried) for tried in by_linear]
    place = int(np.argmin(linear_losses))
    blended = [
        _loss(classes, target, weight * by_trees + (1 - weight) * by_linear[place])
        for weight in WEIGHTS
    ]
    weight = int(np.argmin(blended))
    losses = {"trees": blended[-1], "linear": linear_losses[place], "blend": blended[weight]}
    told = {name: round(loss, 5) for name, loss in losses.items()}
    return Trial(STRENGTHS[place], WEIGHTS[weight], told)


def _loss(classes: Array, target: Array, probabilities: Array) -> float:
    # A class that was absent from a fold's training rows has no share: the rest must sum to one.
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    return float(log_loss(target, shares, labels=classes))


def _boosting(rows: int, random_state: int, *, stop_early: bool) -> dict[str, Any]:
    return {
        "learning_rate": 0.06,
        "max_iter": ROUNDS,
        "max_leaf_nodes": 15 if rows < SMALL_TABLE else 31,
        "min_samples_leaf": max(2, min(20, rows // 20)),
        "l2_regularization": 1.0,
        "early_stopping": stop_early and rows >= STOPS_EARLY_FROM,
        "random_state": random_state,
    }


def _sample(target: Array, most: int, random_state: int) -> Array:
    """Up to about so many rows, each class in its share but with ten rows at least."""
    if len(target) <= most:
        return np.arange(len(target))
    random = np.random.default_rng(random_state)
    chosen: list[Array] = []
    for kind in np.unique(target):
        rows = np.flatnonzero(target == kind)
        wanted = max(10, round(len(rows) * most / len(target)))
        chosen.append(random.choice(rows, min(wanted, len(rows)), replace=False))
    return np.sort(np.concatenate(chosen))
