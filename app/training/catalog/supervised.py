"""What people decided about classifiers, regressors, and what combines or searches them."""

from collections.abc import Mapping
from typing import Final

from app.training.catalog.rules import (
    CLASSIFICATION,
    COUNT_OR_FRACTION,
    FOLDS_OR_NULL,
    NULL,
    REGRESSION,
    SUPERVISED,
    Reviewed,
    Schema,
    either,
    integer,
    number,
    numbers,
    options,
    rule,
    spec,
)

POSITIVE: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9, "x-cap": True}
SMOOTHED: Final[Mapping[str, Schema | None]] = {"alpha": POSITIVE, "force_alpha": None}
HELD_OUT: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}
KERNELS: Final = options("linear", "poly", "rbf", "sigmoid")
GAMMA: Final = either(
    options("scale", "auto"), {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}
)
KERNEL_MACHINE: Final[Mapping[str, Schema | None]] = {
    "kernel": KERNELS,
    "gamma": GAMMA,
    "degree": integer(1, 5),
    "coef0": number(-1e6, 1e6),
    "max_iter": either({"const": -1}, integer(1, 100_000)),
    "probability": None,
}
STOCHASTIC_DESCENT: Final[Mapping[str, Schema | None]] = {
    "learning_rate": options("constant", "optimal", "invscaling", "adaptive"),
    "alpha": POSITIVE,
    "l1_ratio": number(0, 1),
    "power_t": number(-10, 10),
    "average": either({"type": "boolean"}, integer(1, 1_000_000)),
}
NEIGHBOURS: Final[Mapping[str, Schema | None]] = {
    "n_neighbors": integer(1, 10_000),
    "weights": options("uniform", "distance"),
    "metric": options("minkowski", "euclidean", "manhattan", "chebyshev", "cosine"),
    "p": number(1, 10),
}
COSINE_IS_BRUTE: Final = rule(
    {"metric": options("cosine")},
    {"algorithm": options("auto", "brute")},
    "metric 'cosine' works with algorithm 'auto' or 'brute'",
)
FOREST: Final[Mapping[str, Schema | None]] = {
    "max_samples": either(COUNT_OR_FRACTION, NULL),
}
SAMPLES_NEED_BOOTSTRAP: Final = rule(
    {"max_samples": {"type": "number"}},
    {"bootstrap": {"const": True}},
    "max_samples is for bootstrap true",
)
BOOSTING: Final[Mapping[str, Schema | None]] = {
    "init": None,
    "criterion": None,
    "validation_fraction": HELD_OUT,
}
HISTOGRAMS: Final[Mapping[str, Schema | None]] = {
    "scoring": None,
    "max_iter": integer(1, 5000),
    "validation_fraction": HELD_OUT,
}
PERCEPTRON: Final[Mapping[str, Schema | None]] = {
    "hidden_layer_sizes": numbers(integer(1, 10_000), 1, 10),
    "n_iter_no_change": integer(1, 10_000),
    "validation_fraction": HELD_OUT,
}
COORDINATES: Final[Mapping[str, Schema | None]] = {"max_iter": integer(1, 100_000)}
PATH: Final[Mapping[str, Schema | None]] = {
    "alphas": either(
        integer(1, 1000), numbers({"type": "number", "minimum": 0, "maximum": 1e9}, 1, 1000)
    ),
    "cv": FOLDS_OR_NULL,
}
SHRINKAGE: Final = rule(
    {"shrinkage": either(options("auto"), {"type": "number"})},
    {"solver": options("lsqr", "eigen")},
    "shrinkage needs solver 'lsqr' or 'eigen'",
)
QUADRATIC_SHRINKAGE: Final = rule(
    {"shrinkage": either(options("auto"), {"type": "number"})},
    {"solver": options("eigen")},
    "shrinkage needs solver 'eigen'",
)
ENSEMBLE: Final[Mapping[str, Schema | None]] = {
    "max_samples": either(COUNT_OR_FRACTION, NULL),
    "max_features": COUNT_OR_FRACTION,
}
SEARCH_SCORING: Final = (
    *("accuracy", "balanced_accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"),
    *("r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"),
)
SCORING: Final = options(*SEARCH_SCORING, None)
CANDIDATES: Final[Schema] = {"type": "array", "minItems": 1, "maxItems": 100}
RANGE: Final[Schema] = {
    "type": "object",
    "properties": {
        "low": {"type": "number"},
        "high": {"type": "number"},
        "log": {"type": "boolean", "default": False},
    },
    "required": ["low", "high"],
    "additionalProperties": False,
}
GRID: Final[Schema] = {"type": "object", "x-grid": "values", "additionalProperties": CANDIDATES}
DISTRIBUTIONS: Final[Schema] = {
    "type": "object",
    "x-grid": "ranges",
    "additionalProperties": either(CANDIDATES, RANGE),
}
WEIGHTS: Final = either(numbers(number(0, 1e6), 2, 10), NULL)
RIDGE_SOLVERS: Final = options("auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga")

CLASSIFIERS: Final[Mapping[str, Reviewed]] = {
    "LogisticRegression": Reviewed(
        CLASSIFICATION,
        params={
            "penalty": None,
            "dual": None,
            "intercept_scaling": None,
            "l1_ratio": number(0, 1),
            "C": {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9, "x-cap": True},
            "solver": options("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"),
        },
        defaults={"max_iter": 1000},
        conditions=(
            rule(
                {"l1_ratio": {"type": "number", "exclusiveMinimum": 0}},
                {"solver": {"const": "saga"}},
                "an l1_ratio above 0 needs solver 'saga'",
            ),
        ),
    ),
    "RidgeClassifier": Reviewed(
        CLASSIFICATION,
        params={"alpha": number(0, 1e9), "positive": None, "solver": RIDGE_SOLVERS},
    ),
    "SGDClassifier": Reviewed(
        CLASSIFICATION,
        params={
            **STOCHASTIC_DESCENT,
            "loss": options("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"),
        },
    ),
    "LinearSVC": Reviewed(
        CLASSIFICATION,
        params={"intercept_scaling": None, "max_iter": integer(1, 100_000)},
        conditions=(
            rule(
                {"penalty": {"const": "l1"}},
                {"loss": {"const": "squared_hinge"}, "dual": options(False, "auto")},
                "penalty 'l1' works with loss 'squared_hinge' and dual false or 'auto'",
            ),
            rule(
                {"loss": {"const": "hinge"}},
                {"penalty": {"const": "l2"}, "dual": options(True, "auto")},
                "loss 'hinge' works with penalty 'l2' and dual true or 'auto'",
            ),
        ),
    ),
    "SVC": Reviewed(
        CLASSIFICATION,
        params={**KERNEL_MACHINE, "C": number(1e-9, 1e9)},
        max_rows=100_000,
    ),
    "KNeighborsClassifier": Reviewed(
        CLASSIFICATION, params=NEIGHBOURS, conditions=(COSINE_IS_BRUTE,)
    ),
    "GaussianNB": Reviewed(CLASSIFICATION),
    "BernoulliNB": Reviewed(
        CLASSIFICATION,
        params={**SMOOTHED, "binarize": number(0, 1e6)},
    ),
    "MultinomialNB": Reviewed(CLASSIFICATION, params=SMOOTHED),
    "ComplementNB": Reviewed(CLASSIFICATION, params=SMOOTHED),
    "LinearDiscriminantAnalysis": Reviewed(
        CLASSIFICATION, params={"n_components": None}, conditions=(SHRINKAGE,)
    ),
    "QuadraticDiscriminantAnalysis": Reviewed(
        CLASSIFICATION, conditions=(QUADRATIC_SHRINKAGE,), defaults={"reg_param": 0.01}
    ),
    "NearestCentroid": Reviewed(CLASSIFICATION),
    "MLPClassifier": Reviewed(CLASSIFICATION, params=PERCEPTRON),
    "DummyClassifier": Reviewed(
        CLASSIFICATION, params={"strategy": options("prior", "most_frequent")}
    ),
    "DecisionTreeClassifier": Reviewed(CLASSIFICATION, family="trees"),
    "RandomForestClassifier": Reviewed(
        CLASSIFICATION, family="trees", params=FOREST, conditions=(SAMPLES_NEED_BOOTSTRAP,)
    ),
    "ExtraTreesClassifier": Reviewed(
        CLASSIFICATION,
        family="trees",
        params=FOREST,
        conditions=(SAMPLES_NEED_BOOTSTRAP,),
    ),
    "GradientBoostingClassifier": Reviewed(CLASSIFICATION, family="trees", params=BOOSTING),
    "HistGradientBoostingClassifier": Reviewed(
        CLASSIFICATION, family="trees", params={**HISTOGRAMS, "loss": None}
    ),
}


REGRESSORS: Final[Mapping[str, Reviewed]] = {
    "LinearRegression": Reviewed(REGRESSION),
    "Ridge": Reviewed(
        REGRESSION,
        params={"alpha": number(0, 1e9), "positive": None, "solver": RIDGE_SOLVERS},
    ),
    "RidgeCV": Reviewed(
        REGRESSION,
        params={
            "alphas": numbers(number(1e-9, 1e9), 1, 100),
            "cv": FOLDS_OR_NULL,
            "scoring": None,
            "gcv_mode": None,
        },
        defaults={"alphas": [0.01, 0.1, 1.0, 10.0, 100.0]},
    ),
    "Lasso": Reviewed(REGRESSION, params=COORDINATES),
    "LassoCV": Reviewed(REGRESSION, params=PATH),
    "ElasticNet": Reviewed(REGRESSION, params=COORDINATES),
    "ElasticNetCV": Reviewed(
        REGRESSION,
        params={**PATH, "l1_ratio": either(number(0.01, 1), numbers(number(0.01, 1), 1, 20))},
    ),
    "BayesianRidge": Reviewed(REGRESSION, params={"alpha_init": None, "lambda_init": None}),
    "HuberRegressor": Reviewed(REGRESSION, params=COORDINATES, defaults={"max_iter": 1000}),
    "QuantileRegressor": Reviewed(REGRESSION, params={"solver": None}, max_rows=50_000),
    "PoissonRegressor": Reviewed(REGRESSION),
    "GammaRegressor": Reviewed(REGRESSION),
    "TweedieRegressor": Reviewed(
        REGRESSION, params={"power": either(number(-10, 0), number(1, 10))}
    ),
    "SGDRegressor": Reviewed(REGRESSION, params=STOCHASTIC_DESCENT),
    "LinearSVR": Reviewed(
        REGRESSION,
        params={
            "intercept_scaling": None,
            "epsilon": number(0, 1e9),
            "max_iter": integer(1, 100_000),
        },
        conditions=(
            rule(
                {"loss": {"const": "epsilon_insensitive"}},
                {"dual": options(True, "auto")},
                "dual false works with loss 'squared_epsilon_insensitive'",
            ),
        ),
    ),
    "SVR": Reviewed(
        REGRESSION, params={**KERNEL_MACHINE, "C": number(1e-9, 1e9)}, max_rows=100_000
    ),
    "KNeighborsRegressor": Reviewed(REGRESSION, params=NEIGHBOURS, conditions=(COSINE_IS_BRUTE,)),
    "MLPRegressor": Reviewed(REGRESSION, params=PERCEPTRON),
    "DummyRegressor": Reviewed(
        REGRESSION,
        params={"strategy": options("mean", "median", "quantile")},
        conditions=(
            rule(
                {"strategy": {"const": "quantile"}},
                {"quantile": {"type": "number"}},
                "strategy 'quantile' needs a quantile",
            ),
        ),
    ),
    "DecisionTreeRegressor": Reviewed(REGRESSION, family="trees"),
    "RandomForestRegressor": Reviewed(
        REGRESSION, family="trees", params=FOREST, conditions=(SAMPLES_NEED_BOOTSTRAP,)
    ),
    "ExtraTreesRegressor": Reviewed(
        REGRESSION, family="trees", params=FOREST, conditions=(SAMPLES_NEED_BOOTSTRAP,)
    ),
    "GradientBoostingRegressor": Reviewed(REGRESSION, family="trees", params=BOOSTING),
    "HistGradientBoostingRegressor": Reviewed(
        REGRESSION,
        family="trees",
        params=HISTOGRAMS,
        conditions=(
            rule(
                {"loss": {"const": "quantile"}},
                {"quantile": {"type": "number"}},
                "loss 'quantile' needs a quantile",
            ),
        ),
    ),
}


def members(*tasks: str) -> Schema:
    """From two to ten nested estimators."""
    return numbers(spec(*tasks), 2, 10)


COMBINERS: Final[Mapping[str, Reviewed]] = {
    "BaggingClassifier": Reviewed(
        CLASSIFICATION, params={**ENSEMBLE, "estimator": spec(*CLASSIFICATION, optional=True)}
    ),
    "BaggingRegressor": Reviewed(
        REGRESSION, params={**ENSEMBLE, "estimator": spec(*REGRESSION, optional=True)}
    ),
    "AdaBoostClassifier": Reviewed(
        CLASSIFICATION, params={"estimator": spec(*CLASSIFICATION, optional=True)}
    ),
    "AdaBoostRegressor": Reviewed(
        REGRESSION, params={"estimator": spec(*REGRESSION, optional=True)}
    ),
    "VotingClassifier": Reviewed(
        CLASSIFICATION,
        params={"estimators": members(*CLASSIFICATION), "weights": WEIGHTS},
        defaults={"voting": "soft"},
        fixed={"flatten_transform": False},
    ),
    "VotingRegressor": Reviewed(
        REGRESSION, params={"estimators": members(*REGRESSION), "weights": WEIGHTS}
    ),
    "StackingClassifier": Reviewed(
        CLASSIFICATION,
        params={
            "estimators": members(*CLASSIFICATION),
            "final_estimator": spec(*CLASSIFICATION, optional=True),
            "cv": FOLDS_OR_NULL,
        },
    ),
    "StackingRegressor": Reviewed(
        REGRESSION,
        params={
            "estimators": members(*REGRESSION),
            "final_estimator": spec(*REGRESSION, optional=True),
            "cv": FOLDS_OR_NULL,
        },
    ),
    "CalibratedClassifierCV": Reviewed(
        CLASSIFICATION,
        params={"estimator": spec(*CLASSIFICATION, optional=True), "cv": FOLDS_OR_NULL},
    ),
    "GridSearchCV": Reviewed(
        SUPERVISED,
        params={
            "estimator": spec(*SUPERVISED),
            "param_grid": GRID,
            "scoring": SCORING,
            "cv": FOLDS_OR_NULL,
        },
    ),
    "RandomizedSearchCV": Reviewed(
        SUPERVISED,
        params={
            "estimator": spec(*SUPERVISED),
            "param_distributions": DISTRIBUTIONS,
            "n_iter": integer(1, 250),
            "scoring": SCORING,
            "cv": FOLDS_OR_NULL,
        },
    ),
}
