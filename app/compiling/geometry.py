"""Compiling models that compare a row with stored points: centres, support vectors, ellipses."""

from typing import Any

import numpy as np
from sklearn.cluster import (
    AffinityPropagation,
    BisectingKMeans,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
)
from sklearn.covariance import EllipticEnvelope
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from app.compiling.encoders import dense_array, floats
from app.compiling.flow import (
    Flow,
    NotCompilable,
    Plan,
    inner,
    matrix_for,
    predicts,
)
from app.compiling.linear import affine
from app.scoring.cores import Affine, Greatest, JudgeTwo, Mixture, Nearest, Values
from app.scoring.ensembles import PairVotes
from app.scoring.kernels import KERNELS, Bisect, Ellipse, Kernel, NearestCentroids
from app.scoring.step import Step


@predicts(KMeans, MiniBatchKMeans, MeanShift, AffinityPropagation)
def build_nearest(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The nearest of the centres."""
    steps, _ = matrix_for(estimator, flow, plan)
    centers = dense_array(estimator.cluster_centers_)
    if not len(centers):
        raise NotCompilable("a clustering that found no centres has no compiled form")
    return [*steps, Nearest(centers)]


@predicts(BisectingKMeans)
def build_bisecting(estimator: BisectingKMeans, flow: Flow, plan: Plan) -> list[Step]:
    """A tree of pairs of centres."""
    steps, flow = matrix_for(estimator, flow, plan)
    mean = getattr(estimator, "_X_mean", 0.0)
    pairs: list[Any] = []
    ends: list[list[int]] = []

    def add(node: Any) -> int:
        if node.left is None:
            return -1 - int(node.label)
        place = len(pairs)
        pairs.append(np.vstack((node.left.center, node.right.center)) + mean)
        ends.append([])
        ends[place] = [add(node.left), add(node.right)]
        return place

    add(inner(estimator, "_bisecting_tree"))
    centers = floats(np.stack(pairs)) if pairs else np.empty((0, 2, flow.width))
    return [*steps, Bisect(centers, np.array(ends, dtype=np.int64).reshape(-1, 2))]


@predicts(NearestCentroid)
def build_nearest_centroids(estimator: NearestCentroid, flow: Flow, plan: Plan) -> list[Step]:
    """The class of the nearest centre."""
    steps, flow = matrix_for(estimator, flow, plan)
    plan.widen(flow.width * len(estimator.classes_))
    shares = estimator.class_prior_
    spreads = floats(estimator.within_class_std_dev_)
    step = NearestCentroids(
        floats(estimator.centroids_),
        estimator.metric,
        np.where(spreads == 0, 1.0, spreads),
        np.log(shares),
        bool(np.isclose(shares, 1 / len(estimator.classes_)).all()),
        estimator.metric == "euclidean",
    )
    return [*steps, step]


@predicts(GaussianMixture, BayesianGaussianMixture)
def build_mixture(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The most likely of several normal distributions."""
    steps, _ = matrix_for(estimator, flow, plan)
    means = floats(estimator.means_)
    roots = _roots(estimator)
    # At its own mean, a component is at distance 0: what is left depends on no row.
    likelihood = inner(estimator, "_estimate_weighted_log_prob")(means)
    constants = floats(np.diagonal(likelihood))
    return [*steps, Mixture(means, roots, constants), Greatest()]


def _roots(estimator: Any) -> Any:
    """The Cholesky factor of each component's precision, as a full matrix."""
    components, columns = estimator.means_.shape
    factors = floats(estimator.precisions_cholesky_)
    if estimator.covariance_type == "full":
        return factors
    if estimator.covariance_type == "tied":
        return floats(np.broadcast_to(factors, (components, columns, columns)))
    if estimator.covariance_type == "spherical":
        factors = np.repeat(factors[:, None], columns, axis=1)
    return np.stack([np.diag(factor) for factor in factors])


@predicts(EllipticEnvelope)
def build_ellipse(estimator: EllipticEnvelope, flow: Flow, plan: Plan) -> list[Step]:
    """Inside or outside of an ellipse."""
    steps, _ = matrix_for(estimator, flow, plan)
    precision = floats(estimator.get_precision())
    return [*steps, Ellipse(floats(estimator.location_), precision, float(estimator.offset_))]


@predicts(SVR, NuSVR, OneClassSVM)
def build_support_value(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A weighted sum of kernels with the support vectors; of an outlier it is below 0."""
    steps = _kernel(estimator, flow, plan)
    return [*steps, affine(dense_array(estimator.dual_coef_), estimator.intercept_), Values()]


@predicts(SVC, NuSVC)
def build_support_classifier(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The winner of all pairs of classes; no probabilities."""
    if getattr(estimator, "probability", False) is True:
        raise NotCompilable("probabilities of a kernel machine have no compiled form")
    if estimator.break_ties:
        raise NotCompilable("a kernel machine that breaks ties has no compiled form")
    steps = _kernel(estimator, flow, plan)
    weights = dense_array(estimator.dual_coef_)
    if len(estimator.classes_) == 2:
        return [*steps, affine(weights, estimator.intercept_), JudgeTwo(None)]
    pairs = Affine(_pair_weights(weights, estimator.n_support_), floats(estimator.intercept_))
    return [*steps, pairs, PairVotes(len(estimator.classes_))]


def _pair_weights(weights: Any, counts: Any) -> Any:
    """A column of weights for each pair of classes; 0 for the vectors of other classes."""
    classes = len(counts)
    ends = np.cumsum(counts)
    starts = ends - counts
    columns = []
    for first in range(classes):
        for second in range(first + 1, classes):
            column = np.zeros(weights.shape[1])
            own, other = slice(starts[first], ends[first]), slice(starts[second], ends[second])
            column[own] = weights[second - 1, own]
            column[other] = weights[first, other]
            columns.append(column)
    return floats(np.stack(columns, axis=1))


def _kernel(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    if estimator.kernel not in KERNELS:
        raise NotCompilable(f"the kernel {estimator.kernel!r} has no compiled form")
    steps, _ = matrix_for(estimator, flow, plan)
    vectors = dense_array(estimator.support_vectors_)
    plan.widen(len(vectors))
    gamma = float(inner(estimator, "_gamma"))
    kernel = Kernel(
        vectors, estimator.kernel, gamma, float(estimator.degree), float(estimator.coef0)
    )
    return [*steps, kernel]
