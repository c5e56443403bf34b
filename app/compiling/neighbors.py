"""Compiling models that look up training rows: small enough, they become part of the model."""

from typing import Any, Final

import numpy as np
from sklearn.impute import KNNImputer
from sklearn.neighbors import (
    BallTree,
    KDTree,
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
)

from app.compiling.encoders import dense_array, floats
from app.compiling.flow import (
    Built,
    Flow,
    NotCompilable,
    Plan,
    inner,
    matrix_for,
    predicts,
    transforms,
)
from app.scoring.neighbors import (
    FindNeighbors,
    ImputeFromNeighbors,
    LocalDensity,
    MeanOfNeighbors,
    VoteOfNeighbors,
)
from app.scoring.step import Step

CELLS_LIMIT: Final = 100_000
"""Up to so many numbers going through all rows is about as fast for a hundred rows as its trees."""
IMPUTER_CELLS_LIMIT: Final = 2_000_000
METRICS: Final = frozenset({"euclidean", "manhattan", "chebyshev", "minkowski", "cosine"})


def refuse_many(points: Any, limit: int) -> None:
    """Refuse more training rows than are worth looking through."""
    if points.size > limit:
        rows, columns = points.shape
        raise NotCompilable(
            f"{rows} training rows of {columns} columns to look through: more than {limit} numbers "
            "have no compiled form"
        )


def search(estimator: Any, count: int, flow: Flow, plan: Plan) -> list[Step]:
    """The look-up of the nearest training rows."""
    fitted = inner(estimator, "_fit_X")
    refuse_many(fitted, CELLS_LIMIT)
    points = dense_array(fitted)
    metric, options = estimator.effective_metric_, estimator.effective_metric_params_
    if metric not in METRICS or options.get("w") is not None:
        raise NotCompilable(f"neighbours by the metric {metric!r} have no compiled form")
    by_products = inner(estimator, "_fit_method") == "brute" and metric in {"euclidean", "cosine"}
    if by_products and getattr(estimator, "weights", "uniform") != "uniform":
        raise NotCompilable(
            f"{type(estimator).__name__}: neighbours weighed by distances from matrix products"
            " have no compiled form: of short distances these leave rounding alone"
        )
    if callable(getattr(estimator, "weights", None)):
        raise NotCompilable("neighbours weighed by code have no compiled form")
    steps, flow = matrix_for(estimator, flow, plan)
    plan.widen(len(points))
    power = float(options.get("p", 2.0))
    if by_products and metric == "euclidean":
        metric = "products"
    tree = inner(estimator, "_tree")
    return [*steps, FindNeighbors(points, int(count), metric, power, *_tree_parts(tree))]


def _tree_parts(tree: BallTree | KDTree | None) -> tuple[Any, Any, Any, Any]:
    """The order of the points, the nodes, their bounds and radii; all empty without a tree."""
    if tree is None:
        whole = np.empty(0, dtype=np.int64)
        return whole, np.empty((0, 3), dtype=np.int64), np.empty((0, 0, 0)), np.empty(0)
    _, order, nodes, bounds = (np.asarray(array) for array in tree.get_arrays())
    parts = [nodes[name].astype(np.int64) for name in ("idx_start", "idx_end", "is_leaf")]
    return order.astype(np.int64), np.stack(parts, axis=1), floats(bounds), floats(nodes["radius"])


@predicts(KNeighborsClassifier)
def build_vote(estimator: KNeighborsClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """The share of each class among the nearest rows."""
    steps = search(estimator, estimator.n_neighbors, flow, plan)
    codes = np.array(inner(estimator, "_y"), dtype=np.int64)
    if codes.ndim > 1:
        raise NotCompilable("neighbours with several targets have no compiled form")
    by_distance = estimator.weights == "distance"
    return [*steps, VoteOfNeighbors(codes, len(estimator.classes_), by_distance)]


@predicts(KNeighborsRegressor)
def build_mean(estimator: KNeighborsRegressor, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of the nearest rows."""
    steps = search(estimator, estimator.n_neighbors, flow, plan)
    targets = floats(inner(estimator, "_y"))
    if targets.ndim > 1:
        raise NotCompilable("neighbours with several targets have no compiled form")
    return [*steps, MeanOfNeighbors(targets, estimator.weights == "distance")]


@predicts(LocalOutlierFactor)
def build_local_outliers(estimator: LocalOutlierFactor, flow: Flow, plan: Plan) -> list[Step]:
    """The density round a row, against that round its neighbours."""
    steps = search(estimator, estimator.n_neighbors_, flow, plan)
    reaches = inner(estimator, "_distances_fit_X_")[:, estimator.n_neighbors_ - 1]
    density = LocalDensity(
        floats(reaches), floats(inner(estimator, "_lrd")), float(estimator.offset_)
    )
    return [*steps, density]


@transforms(KNNImputer)
def build_neighbor_imputer(imputer: KNNImputer, flow: Flow, plan: Plan) -> Built:
    """Fill with the means of the nearest rows, with indicators of what was missing."""
    marker = imputer.missing_values
    if not (isinstance(marker, float) and np.isnan(marker)):
        raise NotCompilable(f"an imputer of {marker!r} from neighbours has no compiled form")
    if callable(imputer.weights) or imputer.metric != "nan_euclidean":
        raise NotCompilable("an imputer from neighbours with code of its own has no compiled form")
    points = inner(imputer, "_fit_X")
    refuse_many(points, IMPUTER_CELLS_LIMIT)
    steps, flow = matrix_for(imputer, flow, plan)
    plan.widen(len(points))
    known = np.asarray(inner(imputer, "_valid_mask"), dtype=bool)
    kept = np.arange(flow.width) if imputer.keep_empty_features else np.flatnonzero(known)
    indicated = [] if imputer.indicator_ is None else imputer.indicator_.features_
    impute = ImputeFromNeighbors(
        floats(points),
        int(imputer.n_neighbors),
        imputer.weights == "distance",
        kept.astype(np.int64),
        np.array(indicated, dtype=np.int64),
        bool(points.flags.f_contiguous and not points.flags.c_contiguous),
    )
    origins = [flow.origins[place] if known[place] else None for place in kept.tolist()]
    origins += [None] * len(indicated)
    return [*steps, impute], Flow.matrix(len(origins), origins)
