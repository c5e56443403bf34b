"""Trees and a linear model side by side, blended by what they do on rows that they haven't seen.

Each member has its own view of the columns. The strength of the linear member's regularisation and
the weights are those with the least loss (log loss, or squared error) on rows that the members were
not fitted on: three folds, each after the rows it was fitted on where the model is judged in time.
A member that adds nothing is left out. Classes are never reweighted: that ruins the probabilities.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from app.training.fit.columns import Columns
from app.training.fit.preparation import View, column_transformer

Array = NDArray[Any]

FOLDS: Final = 3
TRIAL_ROWS: Final = 20_000
"""Strength and weights are chosen on at most so many rows; the members are fitted on all."""
STRENGTHS: Final[Mapping[str, tuple[float, ...]]] = {
    "classification": (0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
    "regression": (0.1, 1.0, 10.0, 100.0, 1000.0),
}
WEIGHTS: Final = tuple(step / 20 for step in range(21))
NEGLIGIBLE: Final = 0.05
ROUNDS: Final = 400
TREES: Final = 2400
"""Boosting grows a tree a class and round; many classes get fewer rounds."""
FEWEST_ROUNDS: Final = 60
STOPS_EARLY_FROM: Final = 2000
FEWEST_TO_STOP_EARLY: Final = 10
SMALL_TABLE: Final = 5000
TINY_TABLE: Final = 400


@dataclass(frozen=True)
class Chosen:
    """An unfitted pipeline, and in JSON why it is this one."""

    model: BaseEstimator
    account: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """The best strength of the linear member, weight of the trees, and all losses."""

    strength: float
    weight: float
    losses: dict[str, float]


@dataclass(frozen=True)
class Blending:
    """Chooses blends for the columns of one run.

    ``moments`` is set where the model is judged in time: when each row of the run happened.
    Frames are told apart by their index, which holds row numbers of the run.
    """

    columns: Columns
    task: str
    rows: int
    random_state: int
    moments: Array | None = None

    def choose(self, frame: pd.DataFrame, target: Array) -> Chosen:
        """The blend for these rows, which are all training rows, or its better member alone."""
        rows = _sample(target, TRIAL_ROWS, self.random_state) if self._classifies else None
        rows = np.arange(len(target)) if rows is None else rows
        tried = self._trial(frame.iloc[rows], target[rows])
        trees, linear = self.trees(frame, target), self._linear(frame, tried.strength)
        weights = [tried.weight, round(1 - tried.weight, 2)]
        account = {
            "chosen": "blend",
            "strength": tried.strength,
            "weights": dict(zip(("trees", "linear"), weights, strict=True)),
            "log_loss" if self._classifies else "rmse": tried.losses,
            "rows": len(rows),
        }
        if tried.weight < NEGLIGIBLE:
            return Chosen(linear, {**account, "chosen": "linear alone"})
        if tried.weight > 1 - NEGLIGIBLE:
            return Chosen(trees, {**account, "chosen": "trees alone"})
        members = [("trees", trees), ("linear", linear)]
        if not self._classifies:
            return Chosen(VotingRegressor(members, weights=weights), account)
        blend = VotingClassifier(members, voting="soft", weights=weights, flatten_transform=False)
        return Chosen(blend, account)

    def behind(self, model: BaseEstimator, frame: pd.DataFrame, *, trees: bool) -> Pipeline:
        """A pipeline for these rows: the preparation that suits the model, and the model."""
        view = View.for_estimators(
            [model],
            trees=trees,
            task=self.task,
            rows=self.rows,
            random_state=self.random_state,
        )
        prepare = column_transformer(self.columns.known_in(frame), view)
        return Pipeline([("prepare", prepare), ("model", model)])

    def trees(self, frame: pd.DataFrame, target: Array) -> Pipeline:
        """Gradient-boosted trees for as many rows as these."""
        params = _boosting(len(target), self.random_state)
        if not self._classifies:
            return self.behind(HistGradientBoostingRegressor(**params), frame, trees=True)
        classes, counts = np.unique(target, return_counts=True)
        params["early_stopping"] &= int(counts.min()) >= FEWEST_TO_STOP_EARLY
        if len(classes) > 2:
            params["max_iter"] = max(FEWEST_ROUNDS, min(ROUNDS, TREES // len(classes)))
        return self.behind(HistGradientBoostingClassifier(**params), frame, trees=True)

    @property
    def _classifies(self) -> bool:
        return self.task == "classification"

    def _linear(self, frame: pd.DataFrame, strength: float) -> Pipeline:
        if self._classifies:
            model = LogisticRegression(C=strength, max_iter=1000)
        else:
            model = Ridge(alpha=strength)
        return self.behind(model, frame, trees=False)

    def _trial(self, frame: pd.DataFrame, target: Array) -> Trial:
        """Try all strengths and weights on rows that the members weren't fitted on."""
        classes = np.unique(target) if self._classifies else np.zeros(1)
        folds = list(self._folds(frame, target))
        strengths = STRENGTHS[self.task]
        by_trees = np.zeros((len(target), len(classes)))
        by_linear = np.zeros((len(strengths), len(target), len(classes)))
        with warnings.catch_warnings():
            # What the final fit has to say is reported; a fold of it says nothing more.
            warnings.simplefilter("ignore")
            for train, test in folds:
                rows, held_out, known = frame.iloc[train], frame.iloc[test], target[train]
                trees = self.trees(rows, known).fit(rows, known)
                _tell(trees, held_out, classes, by_trees, test)
                prepare = self._linear(rows, 1.0)["prepare"]
                matrix, unseen = prepare.fit_transform(rows, known), prepare.transform(held_out)
                for place, strength in enumerate(strengths):
                    linear = self._linear(rows, strength)["model"].fit(matrix, known)
                    _tell(linear, unseen, classes, by_linear[place], test)
        tested = np.sort(np.concatenate([test for _, test in folds]))
        return self._best(classes, target[tested], by_trees[tested], by_linear[:, tested])

    def _folds(self, frame: pd.DataFrame, target: Array) -> Iterable[tuple[Array, Array]]:
        """Training and test rows; in time, each fold is tested on what came next."""
        if self.moments is not None:
            order = np.argsort(self.moments[frame.index], kind="stable")
            blocks = np.array_split(order, FOLDS + 1)
            kinds = len(np.unique(target)) if self._classifies else 1
            if not self._classifies or len(np.unique(target[blocks[0]])) == kinds:
                return [(np.concatenate(blocks[:k]), blocks[k]) for k in range(1, FOLDS + 1)]
        counts = np.unique(target, return_counts=True)[1]
        stratified = self._classifies and counts.min() >= FOLDS
        folds = (StratifiedKFold if stratified else KFold)(
            FOLDS, shuffle=True, random_state=self.random_state
        )
        split: Iterable[tuple[Array, Array]] = folds.split(np.zeros(len(target)), target)
        return split

    def _best(self, classes: Array, target: Array, by_trees: Array, by_linear: Array) -> Trial:
        def loss(told: Array) -> float:
            if not self._classifies:
                return float(np.sqrt(np.mean((told[:, 0] - target) ** 2)))
            # A class that was absent from a fold's training rows has no share: the rest must sum
            # to one.
            shares = told / told.sum(axis=1, keepdims=True)
            return float(log_loss(target, shares, labels=classes))

        of_linear = [loss(tried) for tried in by_linear]
        place = int(np.argmin(of_linear))
        blended = [loss(w * by_trees + (1 - w) * by_linear[place]) for w in WEIGHTS]
        weight = int(np.argmin(blended))
        losses = {"trees": blended[-1], "linear": of_linear[place], "blend": blended[weight]}
        told = {name: float(f"{value:.5g}") for name, value in losses.items()}
        return Trial(STRENGTHS[self.task][place], WEIGHTS[weight], told)


def _tell(model: Any, rows: Any, classes: Array, answers: Array, places: Array) -> None:
    """Write what the model says about rows to their places; a class it doesn't know gets 0."""
    if hasattr(model, "classes_"):
        known = np.searchsorted(classes, model.classes_)
        answers[np.ix_(places, known)] = model.predict_proba(rows)
    else:
        answers[places, 0] = model.predict(rows)


def _boosting(rows: int, random_state: int) -> dict[str, Any]:
    # On tables this small twenty rows a leaf leave hardly a split.
    smallest_leaf = 20 if rows >= TINY_TABLE else max(2, min(10, rows // 5))
    return {
        "learning_rate": 0.06,
        "max_iter": ROUNDS,
        "max_leaf_nodes": 15 if rows < SMALL_TABLE else 31,
        "min_samples_leaf": smallest_leaf,
        "l2_regularization": 1.0,
        "early_stopping": rows >= STOPS_EARLY_FROM,
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
