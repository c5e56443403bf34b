"""What people decided about the estimators without a target.

Only those that answer for rows they have not seen are here, so no DBSCAN and no t-SNE.
"""

from collections.abc import Mapping
from typing import Final

from app.training.catalog.rules import (
    CLUSTERING,
    COUNT_OR_FRACTION,
    DECOMPOSITION,
    NULL,
    OUTLIERS,
    Reviewed,
    Schema,
    either,
    integer,
    number,
    options,
    rule,
)

FINAL_OR_STEP: Final = ("final", "step")
COMPONENTS: Final = integer(1, 10_000)
STARTS: Final = options("k-means++", "random")
MIXTURE: Final[Mapping[str, Schema | None]] = {
    "n_components": integer(1, 1000),
    "max_iter": integer(1, 100_000),
    "reg_covar": number(0, 1e6),
}
REDUCERS: Final[Mapping[str, Schema | None]] = {"n_components": COMPONENTS}

CLUSTERERS: Final[Mapping[str, Reviewed]] = {
    "KMeans": Reviewed(CLUSTERING, params={"init": STARTS}),
    "MiniBatchKMeans": Reviewed(
        CLUSTERING, params={"init": STARTS, "tol": None, "reassignment_ratio": number(0, 1)}
    ),
    "BisectingKMeans": Reviewed(CLUSTERING, params={"init": STARTS}),
    "GaussianMixture": Reviewed(CLUSTERING, params=MIXTURE, defaults={"n_components": 8}),
    "BayesianGaussianMixture": Reviewed(CLUSTERING, params=MIXTURE, defaults={"n_components": 8}),
    "MeanShift": Reviewed(CLUSTERING, params={"max_iter": integer(1, 100_000)}, max_rows=10_000),
    "AffinityPropagation": Reviewed(
        CLUSTERING,
        params={"affinity": None, "preference": either(number(-1e12, 1e12), NULL)},
        max_rows=5_000,
    ),
}

OUTLIER_DETECTORS: Final[Mapping[str, Reviewed]] = {
    "IsolationForest": Reviewed(
        OUTLIERS, family="trees", params={"max_features": COUNT_OR_FRACTION}
    ),
    "LocalOutlierFactor": Reviewed(
        OUTLIERS,
        params={
            "novelty": None,
            "n_neighbors": integer(1, 10_000),
            "metric": options("minkowski", "euclidean", "manhattan", "chebyshev", "cosine"),
            "p": number(1, 10),
        },
        fixed={"novelty": True},
        conditions=(
            rule(
                {"metric": options("cosine")},
                {"algorithm": options("auto", "brute")},
                "metric 'cosine' works with algorithm 'auto' or 'brute'",
            ),
        ),
    ),
    "OneClassSVM": Reviewed(
        OUTLIERS,
        params={
            "kernel": options("linear", "poly", "rbf", "sigmoid"),
            "degree": integer(1, 5),
            "coef0": number(-1e6, 1e6),
            "max_iter": either({"const": -1}, integer(1, 100_000)),
        },
        max_rows=100_000,
    ),
    "SGDOneClassSVM": Reviewed(
        OUTLIERS,
        params={
            "learning_rate": options("constant", "optimal", "invscaling", "adaptive"),
            "power_t": number(-10, 10),
            "average": either({"type": "boolean"}, integer(1, 1_000_000)),
        },
    ),
    "EllipticEnvelope": Reviewed(OUTLIERS),
}

DECOMPOSITIONS: Final[Mapping[str, Reviewed]] = {
    "PCA": Reviewed(DECOMPOSITION, FINAL_OR_STEP, params={"svd_solver": None, "tol": None}),
    "IncrementalPCA": Reviewed(DECOMPOSITION, FINAL_OR_STEP),
    "TruncatedSVD": Reviewed(DECOMPOSITION, FINAL_OR_STEP, params={**REDUCERS, "tol": None}),
    "FastICA": Reviewed(DECOMPOSITION, FINAL_OR_STEP),
    "FactorAnalysis": Reviewed(
        DECOMPOSITION, FINAL_OR_STEP, params={"n_components": either(COMPONENTS, NULL)}
    ),
    "NMF": Reviewed(
        DECOMPOSITION,
        FINAL_OR_STEP,
        params={
            "init": options("nndsvd", "nndsvda", "nndsvdar", "random", None),
            "beta_loss": options("frobenius", "kullback-leibler"),
        },
        conditions=(
            rule(
                {"beta_loss": {"const": "kullback-leibler"}},
                {"solver": {"const": "mu"}},
                "beta_loss 'kullback-leibler' needs solver 'mu'",
            ),
        ),
    ),
    "LatentDirichletAllocation": Reviewed(DECOMPOSITION, FINAL_OR_STEP, params=REDUCERS),
    "GaussianRandomProjection": Reviewed(
        DECOMPOSITION,
        FINAL_OR_STEP,
        params={**REDUCERS, "eps": None},
        defaults={"n_components": 2},
    ),
    "SparseRandomProjection": Reviewed(
        DECOMPOSITION,
        FINAL_OR_STEP,
        params={**REDUCERS, "eps": None},
        defaults={"n_components": 2},
    ),
}
