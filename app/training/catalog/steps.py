"""What people decided about the transformers that may stand in ``steps`` before the model."""

from collections.abc import Mapping
from typing import Final

from app.training.catalog.rules import (
    NULL,
    SUPERVISED,
    Reviewed,
    Schema,
    either,
    fraction,
    integer,
    number,
    options,
    span,
    spec,
)

STEP: Final = ("step",)
PREPARATION: Final = ("preparation",)
POSITIVE: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9, "x-cap": True}
IMPORTANCE_GIVERS: Final = (
    *("LogisticRegression", "RidgeClassifier", "SGDClassifier", "LinearSVC", "Ridge", "Lasso"),
    *("ElasticNet", "LinearRegression", "LinearSVR", "SGDRegressor", "DecisionTreeClassifier"),
    *("DecisionTreeRegressor", "RandomForestClassifier", "RandomForestRegressor"),
    *("ExtraTreesClassifier", "ExtraTreesRegressor", "GradientBoostingClassifier"),
    "GradientBoostingRegressor",
)
WORDS: Final[Mapping[str, Schema | None]] = {
    "analyzer": options("word", "char", "char_wb"),
    "ngram_range": span(integer(1, 5), strict=False),
    "stop_words": options("english", None),
    "strip_accents": options("ascii", "unicode", None),
    "min_df": either(integer(1, 1_000_000), number(0, 1)),
    "max_df": either(integer(1, 1_000_000), number(0, 1)),
    "max_features": either(integer(1, 1_000_000), NULL),
}
LEVELS: Final[Mapping[str, Schema | None]] = {
    "drop": None,
    "handle_unknown": None,
    "unknown_value": None,
    "encoded_missing_value": None,
    "max_categories": either(integer(2, 10_000), NULL),
}

PREPARATIONS: Final[Mapping[str, Reviewed]] = {
    "SimpleImputer": Reviewed(
        roles=PREPARATION,
        prepares="numbers",
        params={
            "strategy": options("mean", "median", "most_frequent", "constant"),
            "fill_value": either(number(-1e300, 1e300), NULL),
        },
        fixed={"keep_empty_features": True},
    ),
    "KNNImputer": Reviewed(
        roles=PREPARATION,
        prepares="numbers",
        params={"weights": options("uniform", "distance"), "metric": None},
        fixed={"keep_empty_features": True},
        max_rows=50_000,
    ),
    "OneHotEncoder": Reviewed(
        roles=PREPARATION,
        prepares="categories",
        params=LEVELS,
        fixed={"handle_unknown": "infrequent_if_exist"},
    ),
    "OrdinalEncoder": Reviewed(
        roles=PREPARATION,
        prepares="categories",
        params=LEVELS,
        fixed={"handle_unknown": "use_encoded_value"},
    ),
    "TargetEncoder": Reviewed(
        roles=PREPARATION,
        prepares="categories",
        needs_target=True,
        params={"target_type": None, "shuffle": None, "cv": integer(2, 10)},
    ),
    "TfidfVectorizer": Reviewed(roles=PREPARATION, prepares="text", params=WORDS),
    "CountVectorizer": Reviewed(roles=PREPARATION, prepares="text", params=WORDS),
}

SCALERS: Final[Mapping[str, Reviewed]] = {
    "StandardScaler": Reviewed(roles=STEP),
    "MinMaxScaler": Reviewed(
        roles=STEP, params={"feature_range": span(number(-1e9, 1e9), strict=True)}
    ),
    "MaxAbsScaler": Reviewed(roles=STEP),
    "RobustScaler": Reviewed(
        roles=STEP, params={"quantile_range": span(number(0, 100), strict=True)}
    ),
    "Normalizer": Reviewed(roles=STEP),
    "PowerTransformer": Reviewed(roles=STEP, params={"method": None}),
    "QuantileTransformer": Reviewed(
        roles=STEP,
        params={
            "subsample": None,
            "ignore_implicit_zeros": None,
            "n_quantiles": integer(1, 10_000),
        },
    ),
}

EXPANSIONS: Final[Mapping[str, Reviewed]] = {
    "Binarizer": Reviewed(roles=STEP, params={"threshold": number(-1e12, 1e12)}),
    "KBinsDiscretizer": Reviewed(
        roles=STEP,
        params={
            "n_bins": integer(2, 1000),
            "subsample": integer(10, 1_000_000),
            "quantile_method": None,
            "encode": options("onehot-dense", "ordinal"),
        },
        defaults={"encode": "onehot-dense"},
        fixed={"quantile_method": "averaged_inverted_cdf"},
    ),
    "PolynomialFeatures": Reviewed(
        roles=STEP, params={"degree": integer(1, 5)}, defaults={"include_bias": False}
    ),
    "SplineTransformer": Reviewed(
        roles=STEP,
        params={
            "knots": options("uniform", "quantile"),
            "degree": integer(1, 5),
            "extrapolation": options("constant", "linear", "continue", "periodic"),
            "handle_missing": None,
        },
        defaults={"include_bias": False},
    ),
    "Nystroem": Reviewed(
        roles=STEP,
        params={
            "kernel": options("rbf", "linear", "poly", "sigmoid", "cosine", "laplacian"),
            "gamma": either(POSITIVE, NULL),
            "degree": either(number(1, 5), NULL),
            "coef0": either(number(-1e6, 1e6), NULL),
            "n_components": integer(1, 2000),
        },
    ),
    "RBFSampler": Reviewed(roles=STEP, params={"gamma": either(options("scale"), POSITIVE)}),
    "PolynomialCountSketch": Reviewed(roles=STEP, params={"coef0": number(0, 1e6)}),
}

SELECTORS: Final[Mapping[str, Reviewed]] = {
    "VarianceThreshold": Reviewed(roles=STEP),
    "SelectKBest": Reviewed(
        roles=STEP,
        needs_target=True,
        params={"score_func": None, "k": either(options("all"), integer(1, 1_000_000))},
    ),
    "SelectPercentile": Reviewed(
        roles=STEP,
        needs_target=True,
        params={
            "score_func": None,
            "percentile": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
        },
    ),
    "SelectFromModel": Reviewed(
        roles=STEP,
        needs_target=True,
        params={
            "estimator": spec(*SUPERVISED, names=IMPORTANCE_GIVERS),
            "threshold": either(number(0, 1e12), options("mean", "median", None)),
            "norm_order": integer(1, 10),
            "max_features": either(integer(1, 1_000_000), NULL),
        },
    ),
    "RFE": Reviewed(
        roles=STEP,
        needs_target=True,
        params={
            "estimator": spec(*SUPERVISED, names=IMPORTANCE_GIVERS),
            "n_features_to_select": either(integer(1, 1_000_000), fraction(), NULL),
            "step": either(
                integer(1, 10_000), {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
            ),
        },
        defaults={"step": 0.2},
    ),
}
