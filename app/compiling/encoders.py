"""Compiling transformers of numbers: imputing, scaling, picking columns, projecting."""

import math
from typing import Any

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import (
    RFE,
    RFECV,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from app.compiling.categories import build_one_hot, level
from app.compiling.flow import (
    Built,
    Flow,
    NotCompilable,
    Plan,
    as_levels,
    inner,
    matrix_for,
    picked,
    transforms,
)
from app.scoring.categories import FillLevels
from app.scoring.cores import Affine
from app.scoring.encoder import LevelsOfMatrix
from app.scoring.kernels import Cosines, Kernel
from app.scoring.numbers import (
    Binarize,
    Bins,
    Clip,
    Impute,
    Normalize,
    Polynomial,
    Project,
    Quantiles,
    RefuseEndless,
    Scale,
    Stretch,
    YeoJohnson,
)

SELECTORS = (
    *(RFE, RFECV, SelectFdr, SelectFpr, SelectFromModel, SelectFwe, SelectKBest),
    *(SelectPercentile, SequentialFeatureSelector, VarianceThreshold),
)


@transforms(SimpleImputer)
def build_imputer(imputer: SimpleImputer, flow: Flow, plan: Plan) -> Built:
    """Fill numbers or strings, with indicators of what was missing."""
    statistics = imputer.statistics_
    marker = imputer.missing_values
    of_nan = isinstance(marker, float) and math.isnan(marker)
    strings = flow.kind == "levels" or (flow.kind == "frame" and _has_strings(flow, plan))
    if not strings and not of_nan and not isinstance(marker, (int, float)):
        raise NotCompilable(f"an imputer of {marker!r} among numbers has no compiled form")
    if strings and not of_nan:
        raise NotCompilable(f"an imputer of {marker!r} among strings has no compiled form")
    empty = [level(value) is None for value in statistics]
    kept = [place for place, gone in enumerate(empty) if imputer.keep_empty_features or not gone]
    indicated = [] if imputer.indicator_ is None else [int(i) for i in imputer.indicator_.features_]
    if strings:
        if indicated:
            raise NotCompilable("indicators of missing strings have no compiled form")
        steps, after = picked(flow, kept)
        more, after = as_levels(after)
        return [*steps, *more, FillLevels([level(statistics[place]) for place in kept])], after
    steps, after = matrix_for(imputer, flow, plan)
    fill = np.array([float(statistics[place]) for place in kept])
    impute = Impute(
        np.array(kept, dtype=np.int64),
        fill,
        np.array(indicated, dtype=np.int64),
        None if of_nan else float(marker),
    )
    origins = [*(after.origins[place] for place in kept), *([None] * len(indicated))]
    return [*steps, impute], Flow.matrix(len(origins), origins, gaps=after.gaps and not of_nan)


def _has_strings(flow: Flow, plan: Plan) -> bool:
    columns = [column for column in flow.columns if column is not None]
    kinds = {plan.recipe.columns[column].kind for column in columns}
    return bool(kinds & {"category", "text"})


def _scaled(flow: Flow, shift: Any, divisor: Any) -> Flow:
    """The flow after ``(x - shift) / divisor``."""
    shifts = np.zeros(flow.width) if shift is None else shift
    divisors = np.ones(flow.width) if divisor is None else divisor
    origins = [
        None if origin is None else origin.then(float(moved), float(scale))
        for origin, moved, scale in zip(flow.origins, shifts, divisors, strict=True)
    ]
    return Flow.matrix(flow.width, origins, gaps=flow.gaps)


def _scale(scaler: Any, flow: Flow, plan: Plan, shift: Any, divisor: Any) -> Built:
    """``(x - shift) / divisor``, each None where the scaler doesn't."""
    steps, flow = matrix_for(scaler, flow, plan)
    return [*steps, Scale(floats(shift), floats(divisor))], _scaled(flow, shift, divisor)


@transforms(StandardScaler)
def build_standard_scaler(scaler: StandardScaler, flow: Flow, plan: Plan) -> Built:
    """Mean 0, deviation 1."""
    shift = scaler.mean_ if scaler.with_mean else None
    return _scale(scaler, flow, plan, shift, scaler.scale_ if scaler.with_std else None)


@transforms(RobustScaler)
def build_robust_scaler(scaler: RobustScaler, flow: Flow, plan: Plan) -> Built:
    """Median 0, range of quantiles 1."""
    shift = scaler.center_ if scaler.with_centering else None
    return _scale(scaler, flow, plan, shift, scaler.scale_ if scaler.with_scaling else None)


@transforms(MaxAbsScaler)
def build_max_abs_scaler(scaler: MaxAbsScaler, flow: Flow, plan: Plan) -> Built:
    """Greatest size 1."""
    steps, after = _scale(scaler, flow, plan, None, scaler.scale_)
    cut = [Clip(-1.0, 1.0)] if getattr(scaler, "clip", False) else []
    return [*steps, *cut], after


@transforms(MinMaxScaler)
def build_min_max_scaler(scaler: MinMaxScaler, flow: Flow, plan: Plan) -> Built:
    """Least and greatest value at the ends of a range."""
    steps, flow = matrix_for(scaler, flow, plan)
    factor, offset = scaler.scale_, scaler.min_
    stretched = [*steps, Stretch(np.asarray(factor, float), np.asarray(offset, float))]
    low, high = scaler.feature_range
    cut = [Clip(float(low), float(high))] if scaler.clip else []
    return [*stretched, *cut], _scaled(flow, -offset / factor, 1 / factor)


@transforms(Normalizer)
def build_normalizer(normalizer: Normalizer, flow: Flow, plan: Plan) -> Built:
    """Rows of length 1."""
    steps, flow = matrix_for(normalizer, flow, plan)
    return [*steps, Normalize(normalizer.norm)], Flow.matrix(flow.width)


@transforms(Binarizer)
def build_binarizer(binarizer: Binarizer, flow: Flow, plan: Plan) -> Built:
    """Above a threshold or not."""
    steps, flow = matrix_for(binarizer, flow, plan)
    return [*steps, Binarize(float(binarizer.threshold))], Flow.matrix(flow.width)


@transforms(PowerTransformer)
def build_power_transformer(power: PowerTransformer, flow: Flow, plan: Plan) -> Built:
    """The Yeo-Johnson transformation, then mean 0 and deviation 1."""
    if power.method != "yeo-johnson":
        raise NotCompilable("the Box-Cox transformation has no compiled form")
    steps, flow = matrix_for(power, flow, plan)
    steps = [*steps, YeoJohnson(np.asarray(power.lambdas_, float))]
    after = Flow.matrix(flow.width, gaps=flow.gaps)
    if not power.standardize:
        return steps, after
    more, after = build_standard_scaler(inner(power, "_scaler"), after, plan)
    # Powers of what is far out are infinite; the scaler refuses them.
    return [*steps, RefuseEndless(), *more], after


@transforms(PolynomialFeatures)
def build_polynomial(polynomial: PolynomialFeatures, flow: Flow, plan: Plan) -> Built:
    """Products of columns."""
    steps, flow = matrix_for(polynomial, flow, plan)
    powers = polynomial.powers_.astype(np.int64)
    return [*steps, Polynomial(powers)], Flow.matrix(len(powers), gaps=flow.gaps)


@transforms(KBinsDiscretizer)
def build_bins(bins: KBinsDiscretizer, flow: Flow, plan: Plan) -> Built:
    """The bin of each number, as an ordinal or one-hot."""
    steps, flow = matrix_for(bins, flow, plan)
    edges = [np.asarray(edges[1:-1], dtype=np.float64) for edges in bins.bin_edges_]
    steps = [*steps, Bins(edges)]
    if bins.encode == "ordinal":
        return steps, Flow.matrix(flow.width)
    more, after = build_one_hot(inner(bins, "_encoder"), Flow("levels", flow.width), plan)
    return [*steps, LevelsOfMatrix(), *more], after


@transforms(QuantileTransformer)
def build_quantiles(transformer: QuantileTransformer, flow: Flow, plan: Plan) -> Built:
    """Shares of the training data, or the normal quantiles of these."""
    steps, flow = matrix_for(transformer, flow, plan)
    normal = transformer.output_distribution == "normal"
    quantiles = Quantiles(floats(transformer.quantiles_), floats(transformer.references_), normal)
    return [*steps, quantiles], Flow.matrix(flow.width, gaps=flow.gaps)


@transforms(*SELECTORS)
def build_selector(selector: Any, flow: Flow, plan: Plan) -> Built:
    """Some of the columns."""
    steps, flow = matrix_for(selector, flow, plan)
    more, after = picked(flow, selector.get_support(indices=True))
    return [*steps, *more], after


def project(estimator: Any, flow: Flow, plan: Plan, weights: Any, **moved: Any) -> Built:
    """A product with ``weights`` (columns, outputs), moved and scaled as ``Project`` does."""
    steps, flow = matrix_for(estimator, flow, plan)
    weights = np.ascontiguousarray(weights, dtype=np.float64)
    step = Project(weights, **{name: floats(array) for name, array in moved.items()})
    return [*steps, step], Flow.matrix(weights.shape[1])


@transforms(PCA, IncrementalPCA)
def build_pca(pca: Any, flow: Flow, plan: Plan) -> Built:
    """Principal components."""
    weights = pca.components_.T
    spread = None
    if pca.whiten:
        spread = np.sqrt(pca.explained_variance_)
        spread = np.maximum(spread, np.finfo(spread.dtype).eps)
    after = pca.mean_.reshape(1, -1) @ weights
    return project(pca, flow, plan, weights, after=after, divisor=spread)


@transforms(TruncatedSVD, GaussianRandomProjection)
def build_linear_projection(projection: Any, flow: Flow, plan: Plan) -> Built:
    """Directions alone."""
    return project(projection, flow, plan, projection.components_.T)


@transforms(SparseRandomProjection)
def build_sparse_projection(projection: Any, flow: Flow, plan: Plan) -> Built:
    """Directions that may be kept as a sparse matrix."""
    return project(projection, flow, plan, dense_array(projection.components_).T)


@transforms(FastICA)
def build_ica(ica: FastICA, flow: Flow, plan: Plan) -> Built:
    """Independent components."""
    before = ica.mean_ if ica.whiten else None
    return project(ica, flow, plan, ica.components_.T, before=before)


@transforms(FactorAnalysis)
def build_factors(factors: FactorAnalysis, flow: Flow, plan: Plan) -> Built:
    """Factors: two matrix products in one."""
    scaled = factors.components_ / factors.noise_variance_
    covariance = np.linalg.inv(np.eye(len(scaled)) + scaled @ factors.components_.T)
    return project(factors, flow, plan, scaled.T @ covariance, before=factors.mean_)


@transforms(LinearDiscriminantAnalysis)
def build_discriminants(analysis: Any, flow: Flow, plan: Plan) -> Built:
    """The directions that tell classes apart."""
    kept = inner(analysis, "_max_components")
    before = analysis.xbar_ if analysis.solver == "svd" else None
    return project(analysis, flow, plan, analysis.scalings_[:, :kept], before=before)


@transforms(RBFSampler)
def build_random_features(sampler: RBFSampler, flow: Flow, plan: Plan) -> Built:
    """Random Fourier features."""
    steps, flow = matrix_for(sampler, flow, plan)
    weights = np.ascontiguousarray(sampler.random_weights_, dtype=np.float64)
    waves = Cosines((2.0 / sampler.n_components) ** 0.5)
    offset = np.asarray(sampler.random_offset_, dtype=np.float64)
    return [*steps, Affine(weights, offset), waves], Flow.matrix(weights.shape[1])


@transforms(Nystroem)
def build_nystroem(nystroem: Nystroem, flow: Flow, plan: Plan) -> Built:
    """The kernel with a few rows of the training data, made orthogonal."""
    if nystroem.kernel not in {"linear", "rbf", "poly", "polynomial", "sigmoid"}:
        raise NotCompilable(f"the kernel {nystroem.kernel!r} has no compiled form")
    vectors = dense_array(nystroem.components_)
    gamma = 1.0 / vectors.shape[1] if nystroem.gamma is None else float(nystroem.gamma)
    degree = 3.0 if nystroem.degree is None else float(nystroem.degree)
    offset = 1.0 if nystroem.coef0 is None else float(nystroem.coef0)
    function = "poly" if nystroem.kernel == "polynomial" else nystroem.kernel
    plan.widen(len(vectors))
    steps, flow = matrix_for(nystroem, flow, plan)
    kernel = Kernel(vectors, function, gamma, degree, offset)
    weights = np.ascontiguousarray(nystroem.normalization_.T, dtype=np.float64)
    return [*steps, kernel, Project(weights)], Flow.matrix(weights.shape[1])


def floats(array: Any) -> Any:
    """A copy as contiguous float64; None stays None."""
    return None if array is None else np.array(array, dtype=np.float64, order="C")


def dense_array(array: Any) -> Any:
    """A dense, contiguous float64 array of one that may be sparse."""
    return floats(array.toarray() if hasattr(array, "toarray") else array)
