"""Compiling trees and ensembles of trees."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from app.compiling.emitter import Tree, emit, tree_of, tree_of_histograms
from app.compiling.flow import (
    Flow,
    NotCompilable,
    Plan,
    Split,
    build_transformer,
    inner,
    matrix_for,
    predicts,
)
from app.compiling.linear import link_of
from app.compiling.masks import masked
from app.scoring.cores import JudgeMany, JudgeTwo, Values
from app.scoring.masks import MaskedTrees
from app.scoring.step import Step
from app.scoring.trees import Isolation, TreeLeaves, TreeSums, WeightedMedian

Leaves = Callable[[int, NDArray[np.int64]], Any]

TREE_CLASSIFIERS = (DecisionTreeClassifier, ExtraTreeClassifier)
TREE_REGRESSORS = (DecisionTreeRegressor, ExtraTreeRegressor)
SPLITS_NOTED = 4000


def note_splits(trees: Sequence[Tree], flow: Flow, plan: Plan) -> None:
    """Count the nodes, and note the thresholds of prepared columns."""
    plan.count_nodes(sum(len(tree.left) for tree in trees))
    features = np.concatenate([tree.feature[tree.left >= 0] for tree in trees])
    thresholds = np.concatenate([tree.threshold[tree.left >= 0] for tree in trees])
    finite = np.flatnonzero(np.isfinite(thresholds))
    draw = np.random.default_rng(0)
    chosen = draw.choice(finite, min(len(finite), SPLITS_NOTED), replace=False)
    pairs = np.unique(np.stack([features[chosen], thresholds[chosen]], axis=1), axis=0)
    for feature, threshold in pairs.tolist():
        origin = flow.origins[int(feature)]
        if origin is not None:
            plan.splits.append(Split(origin, threshold))


def sums(
    trees: Sequence[Tree],
    flow: Flow,
    plan: Plan,
    leaves: Leaves,
    *,
    target: Callable[[int], int] = lambda _: 0,
    base: Any = (0.0,),
    divisor: float = 1.0,
    single: bool = True,
) -> MaskedTrees | TreeSums:
    """The trees as sums of their leaves' numbers, one output for each number of ``base``."""
    note_splits(trees, flow, plan)
    base = np.array(base, dtype=np.float64)
    onnx = emit(trees, leaves, target, targets=len(base), columns=flow.width)
    return masked(trees, leaves, target, TreeSums(onnx, single, float(divisor), base))


def tables(
    trees: Sequence[Tree], flow: Flow, plan: Plan, leaves: Leaves, *, divisor: float
) -> TreeLeaves:
    """The trees as sums of rows of numbers: the ensemble tells which leaves are reached."""
    note_splits(trees, flow, plan)
    rows = [
        np.asarray(leaves(number, tree.leaves), dtype=np.float64)
        for number, tree in enumerate(trees)
    ]
    starts = np.cumsum([0, *map(len, rows)])
    plan.widen(len(trees) * rows[0].shape[1])
    onnx = emit(
        trees,
        lambda number, _: np.arange(starts[number], starts[number + 1], dtype=np.float64),
        lambda number: number,
        targets=len(trees),
        columns=flow.width,
    )
    return TreeLeaves(onnx, single=True, divisor=float(divisor), tables=np.concatenate(rows))


def shares(
    members: Sequence[Any], features: Sequence[Any], flow: Flow, plan: Plan, classes: int
) -> list[Step]:
    """The mean of what classification trees say, and the class for which it is greatest.

    ``features`` are the columns that each member was given, None for all. A member that knows only
    some classes has them as the positions ``classes_``.
    """
    trees = [tree_of(member.tree_, used) for member, used in zip(members, features, strict=True)]

    def leaves(number: int, nodes: NDArray[np.int64]) -> Any:
        member = members[number]
        known = member.tree_.value[nodes, 0, :]
        if known.shape[1] == classes:
            return known
        spread = np.zeros((len(nodes), classes))
        spread[:, np.asarray(member.classes_, dtype=np.int64)] = known
        return spread

    if classes == 2:
        second = sums(
            trees, flow, plan, lambda n, nodes: leaves(n, nodes)[:, 1], divisor=len(trees)
        )
        return [second, JudgeTwo("identity", threshold=0.5)]
    return [tables(trees, flow, plan, leaves, divisor=len(trees)), JudgeMany("identity")]


def single_output(estimator: Any) -> None:
    """Refuse an estimator of several targets."""
    if estimator.n_outputs_ != 1:
        raise NotCompilable("trees of several targets have no compiled form")


@predicts(RandomForestClassifier, ExtraTreesClassifier)
def build_forest_classifier(forest: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of the trees' probabilities."""
    single_output(forest)
    steps, flow = matrix_for(forest, flow, plan)
    members = forest.estimators_
    return [*steps, *shares(members, [None] * len(members), flow, plan, len(forest.classes_))]


@predicts(*TREE_CLASSIFIERS)
def build_tree_classifier(tree: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The probabilities of one tree."""
    single_output(tree)
    steps, flow = matrix_for(tree, flow, plan)
    return [*steps, *shares([tree], [None], flow, plan, len(tree.classes_))]


@predicts(RandomForestRegressor, ExtraTreesRegressor)
def build_forest_regressor(forest: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of the trees' values."""
    single_output(forest)
    steps, flow = matrix_for(forest, flow, plan)
    return [*steps, *mean_of_trees(forest.estimators_, None, flow, plan)]


@predicts(*TREE_REGRESSORS)
def build_tree_regressor(tree: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The value of one tree."""
    single_output(tree)
    steps, flow = matrix_for(tree, flow, plan)
    return [*steps, *mean_of_trees([tree], None, flow, plan)]


def mean_of_trees(
    members: Sequence[Any], features: Sequence[Any] | None, flow: Flow, plan: Plan
) -> list[Step]:
    """The mean of what regression trees say."""
    used = features or [None] * len(members)
    trees = [tree_of(member.tree_, columns) for member, columns in zip(members, used, strict=True)]
    mean = sums(trees, flow, plan, value_leaves(members), divisor=len(trees))
    return [mean, Values()]


def value_leaves(members: Sequence[Any], factor: float = 1.0) -> Leaves:
    """The values at the leaves of regression trees, times a factor."""
    return lambda number, nodes: members[number].tree_.value[nodes, 0, 0] * factor


def boosted(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The raw scores of gradient boosting: where it starts from, and all its trees."""
    steps, flow = matrix_for(model, flow, plan)
    outputs = model.estimators_.shape[1]
    if model.init_ != "zero" and not type(model.init_).__name__.startswith("Dummy"):
        raise NotCompilable("gradient boosting that starts from a model has no compiled form")
    start = inner(model, "_raw_predict_init")(np.zeros((1, flow.width), dtype=np.float32))
    members = model.estimators_.ravel().tolist()
    scores = sums(
        [tree_of(member.tree_) for member in members],
        flow,
        plan,
        value_leaves(members, model.learning_rate),
        target=lambda number: number % outputs,
        base=np.asarray(start, dtype=np.float64)[0],
    )
    return [*steps, scores]


@predicts(GradientBoostingClassifier)
def build_boosted_classifier(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """Scores of boosted trees, to probabilities by the loss."""
    scores = boosted(model, flow, plan)
    if model.estimators_.shape[1] > 1:
        return [*scores, JudgeMany("softmax")]
    factor = 2.0 if model.loss == "exponential" else 1.0
    return [*scores, JudgeTwo("logistic", factor=factor, inclusive=True)]


@predicts(GradientBoostingRegressor)
def build_boosted_regressor(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The value of boosted trees."""
    return [*boosted(model, flow, plan), Values()]


def histogram_scores(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The raw scores of histogram gradient boosting.

    Where columns are categories, the model's own preprocessing puts their codes first.
    """
    preprocessor = inner(model, "_preprocessor")
    if preprocessor is None:
        steps, flow = matrix_for(model, flow, plan)
    else:
        steps, flow = build_transformer(preprocessor, flow, plan)
    rounds = inner(model, "_predictors")
    outputs = model.n_trees_per_iteration_
    predictors = [predictor for trees in rounds for predictor in trees]
    base = np.ravel(inner(model, "_baseline_prediction"))
    scores = sums(
        [tree_of_histograms(predictor) for predictor in predictors],
        flow,
        plan,
        lambda number, nodes: predictors[number].nodes["value"][nodes],
        target=lambda number: number % outputs,
        base=base,
        single=False,
    )
    return [*steps, scores]


@predicts(HistGradientBoostingClassifier)
def build_histogram_classifier(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """Scores of boosted trees, to probabilities."""
    scores = histogram_scores(model, flow, plan)
    two = model.n_trees_per_iteration_ == 1
    return [*scores, JudgeTwo("logistic") if two else JudgeMany("softmax")]


@predicts(HistGradientBoostingRegressor)
def build_histogram_regressor(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The value of boosted trees, through the inverse of the link of the loss."""
    return [*histogram_scores(model, flow, plan), Values(link_of(inner(model, "_loss")))]


@predicts(IsolationForest)
def build_isolation(forest: IsolationForest, flow: Flow, plan: Plan) -> list[Step]:
    """How soon the trees isolate a row."""
    steps, flow = matrix_for(forest, flow, plan)
    members = forest.estimators_
    steps_down = inner(forest, "_decision_path_lengths")
    beyond = inner(forest, "_average_path_length_per_tree")
    depths = sums(
        [
            tree_of(member.tree_, used)
            for member, used in zip(members, forest.estimators_features_, strict=True)
        ],
        flow,
        plan,
        lambda number, nodes: steps_down[number][nodes] + beyond[number][nodes] - 1.0,
    )
    denominator = len(members) * average_path_length(int(inner(forest, "_max_samples")))
    return [*steps, depths, Isolation(float(denominator), float(forest.offset_))]


def average_path_length(rows: int) -> float:
    """The mean depth of unsuccessful searches in a binary tree of so many rows."""
    if rows <= 2:
        return 1.0 if rows == 2 else 0.0
    return float(2.0 * (np.log(rows - 1.0) + np.euler_gamma) - 2.0 * (rows - 1.0) / rows)


@predicts(AdaBoostClassifier)
def build_adaboost_classifier(model: AdaBoostClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """Weighted votes of trees, written into their leaves."""
    members, classes = model.estimators_, len(model.classes_)
    only_trees(members, TREE_CLASSIFIERS, "AdaBoost")
    steps, flow = matrix_for(members[0], flow, plan)
    weights = np.asarray(model.estimator_weights_, dtype=np.float64)
    trees = [tree_of(member.tree_) for member in members]

    def leaves(number: int, nodes: NDArray[np.int64]) -> Any:
        member = members[number]
        chosen = member.classes_[member.tree_.value[nodes, 0, :].argmax(axis=1)]
        own = chosen[:, None] == model.classes_
        weight = weights[number]
        return np.where(own, weight, -1 / (classes - 1) * weight)

    if classes > 2:
        scores: Step = tables(trees, flow, plan, leaves, divisor=weights.sum())
        return [*steps, scores, JudgeMany("softmax", factor=1 / (classes - 1))]

    def difference(number: int, nodes: NDArray[np.int64]) -> Any:
        votes = leaves(number, nodes)
        return votes[:, 1] - votes[:, 0]

    scores = sums(trees, flow, plan, difference, divisor=weights.sum())
    return [*steps, scores, JudgeTwo("logistic")]


@predicts(AdaBoostRegressor)
def build_adaboost_regressor(model: AdaBoostRegressor, flow: Flow, plan: Plan) -> list[Step]:
    """The weighted median of trees."""
    members = model.estimators_
    only_trees(members, TREE_REGRESSORS, "AdaBoost")
    steps, flow = matrix_for(members[0], flow, plan)
    values = sums(
        [tree_of(member.tree_) for member in members],
        flow,
        plan,
        value_leaves(members),
        target=lambda number: number,
        base=np.zeros(len(members)),
    )
    weights = np.asarray(model.estimator_weights_, dtype=np.float64)[: len(members)]
    plan.widen(len(members))
    return [*steps, values, WeightedMedian(weights)]


def only_trees(members: Sequence[Any], kinds: tuple[type, ...], whole: str) -> None:
    """Refuse members that are anything else than trees."""
    if not all(type(member) in kinds for member in members):
        raise NotCompilable(f"{whole} of other members than trees has no compiled form")
