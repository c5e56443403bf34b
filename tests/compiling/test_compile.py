"""Compiled models say what scikit-learn says, or are not made."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import BisectingKMeans, KMeans, MeanShift
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import NMF, PCA, FactorAnalysis, FastICA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import KNNImputer
from sklearn.kernel_approximation import PolynomialCountSketch
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDOneClassSVM,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    NearestCentroid,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from app.compiling.compiler import CompileResult, compile_and_verify, compile_pipeline
from app.compiling.flow import NotCompilable
from app.kernel.errors import Invalid
from app.scoring.estimator import answer
from app.scoring.format import agree, load, save
from app.scoring.frame import Recipe, prepare
from tests.compiling.cases import (
    RECIPE,
    Case,
    answered_otherwise_as_a_batch,
    coded,
    frame,
    output_of,
    scaled,
    signature_of,
    small,
    table,
    targets,
)


def with_text():
    return scaled(text=True)


def counts():
    words = ("words", CountVectorizer(binary=True), "comment")
    return ColumnTransformer(
        [words, ("categories", OneHotEncoder(handle_unknown="ignore"), ["island"])]
    )


def own_means():
    means = TargetEncoder(random_state=0)
    return ColumnTransformer(
        [("means", means, ["island", "level"]), ("numbers", "passthrough", ["price"])]
    )


def from_neighbours():
    numbers = KNNImputer(n_neighbors=3, weights="distance", add_indicator=True)
    return ColumnTransformer([("numbers", numbers, ["mass", "price", "when__hour"])])


def nested():
    within = ColumnTransformer([("last", "passthrough", [1]), ("rest", "drop", [0])])
    numbers = Pipeline([("scale", MinMaxScaler(clip=True)), ("some", within)])
    parts = [("numbers", numbers, ["price", "flag"]), ("words", tfidf_steps(), "comment")]
    return ColumnTransformer(parts, remainder="drop")


def tfidf_steps():
    return Pipeline([("count", CountVectorizer(analyzer="char_wb", ngram_range=(2, 3))), *WEIGH])


WEIGH = [("weigh", TfidfTransformer(norm="l1")), ("svd", TruncatedSVD(4, random_state=0))]
HGB = {"max_iter": 12, "random_state": 0}
TREES = {"n_estimators": 7, "random_state": 0}


def blend():
    trees = Pipeline([("prepare", coded()), ("model", HistGradientBoostingClassifier(**HGB))])
    logistic = LogisticRegressionCV(Cs=2, cv=2, scoring="neg_log_loss", use_legacy_attributes=False)
    linear = Pipeline([("prepare", with_text()), ("model", logistic)])
    members = [("trees", trees), ("linear", linear)]
    return VotingClassifier(members, voting="soft", weights=[0.6, 0.4])


def members():
    return [("a", LogisticRegression()), ("b", GaussianNB()), ("c", DecisionTreeClassifier())]


def stack(**options):
    parts = [("a", LogisticRegression()), ("b", RandomForestClassifier(**TREES))]
    return StackingClassifier([*parts, ("c", LinearSVC())], cv=2, **options)


BOTH = {
    "logistic": (with_text, LogisticRegression()),
    "blend": (None, blend()),
    "ridge": (scaled, RidgeClassifier()),
    "sgd_log": (scaled, SGDClassifier(loss="log_loss", random_state=0)),
    "sgd_huber": (scaled, SGDClassifier(loss="modified_huber", random_state=0)),
    "gaussian": (small, GaussianNB()),
    "bernoulli": (small, BernoulliNB()),
    "multinomial": (counts, MultinomialNB()),
    "complement": (counts, ComplementNB()),
    "discriminant": (small, LinearDiscriminantAnalysis()),
    "quadratic": (small, QuadraticDiscriminantAnalysis(reg_param=0.1)),
    "perceptron": (small, MLPClassifier((5, 4), max_iter=20, random_state=0)),
    "kernel": (small, SVC()),
    "tree": (coded, DecisionTreeClassifier(max_depth=5, random_state=0)),
    "forest": (coded, RandomForestClassifier(**TREES)),
    "scaled_forest": (with_text, RandomForestClassifier(**TREES)),
    "extra_trees": (coded, ExtraTreesClassifier(**TREES)),
    "boosting": (small, GradientBoostingClassifier(**TREES)),
    "histograms": (coded, HistGradientBoostingClassifier(**HGB)),
    "adaboost": (small, AdaBoostClassifier(**TREES)),
    "bagging": (coded, BaggingClassifier(max_features=0.6, max_samples=0.1, **TREES)),
    "bagged_lines": (small, BaggingClassifier(LogisticRegression(), max_features=0.6, **TREES)),
    "bagged_labels": (small, BaggingClassifier(LinearSVC(), **TREES)),
    "sigmoid": (small, CalibratedClassifierCV(LinearSVC(), cv=2)),
    "isotonic": (
        small,
        CalibratedClassifierCV(RandomForestClassifier(**TREES), cv=2, method="isotonic"),
    ),
    "majority": (small, VotingClassifier(members(), weights=[1, 2, 1.5])),
    "stack": (small, stack()),
    "passed_stack": (small, stack(passthrough=True)),
    "prior": (small, DummyClassifier()),
    "search": (small, GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)),
    "lone_leaves": (coded, ExtraTreesClassifier(min_samples_leaf=400, **TREES)),
    "means": (own_means, HistGradientBoostingClassifier(**HGB)),
    "neighbours": (small, KNeighborsClassifier()),
    "near_neighbours": (small, KNeighborsClassifier(weights="distance", p=3)),
    "many_neighbours": (scaled, KNeighborsClassifier(7, metric="manhattan", algorithm="ball_tree")),
    "looked_through": (small, KNeighborsClassifier(metric="chebyshev", algorithm="brute")),
    "centroids": (small, NearestCentroid()),
    "even_centroids": (small, NearestCentroid(metric="manhattan", shrink_threshold=0.1)),
    "own_centroids": (small, NearestCentroid(priors="empirical")),
    "filled": (from_neighbours, HistGradientBoostingClassifier(**HGB)),
}
TWO = {
    "exponential": (small, GradientBoostingClassifier(loss="exponential", **TREES)),
    "tuned": (small, TunedThresholdClassifierCV(LogisticRegression(), cv=2)),
    "fixed": (
        small,
        FixedThresholdClassifier(LogisticRegression(), threshold=0.3, pos_label=False),
    ),
    "fixed_score": (small, FixedThresholdClassifier(LinearSVC(), threshold=0.1)),
}
NUMBER = {
    "linear": (with_text, LinearRegression()),
    "elastic": (scaled, ElasticNet(0.01)),
    "huber": (small, HuberRegressor(max_iter=500)),
    "layers": (small, MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0)),
    "support": (small, SVR()),
    "partial": (small, PLSRegression(2)),
    "mean": (small, DummyRegressor()),
    "tree": (coded, DecisionTreeRegressor(max_depth=6, random_state=0)),
    "forest": (coded, RandomForestRegressor(**TREES)),
    "lone_leaves": (coded, RandomForestRegressor(min_samples_leaf=400, **TREES)),
    "lone_leaf_boosting": (coded, HistGradientBoostingRegressor(min_samples_leaf=400, **HGB)),
    "boosting": (small, GradientBoostingRegressor(**TREES)),
    "histograms": (coded, HistGradientBoostingRegressor(**HGB)),
    "adaboost": (small, AdaBoostRegressor(**TREES)),
    "bagging": (coded, BaggingRegressor(max_features=0.6, **TREES)),
    "bagged_lines": (small, BaggingRegressor(Ridge(), **TREES)),
    "voting": (
        small,
        VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(**TREES))], weights=[1, 3]),
    ),
    "stack": (
        small,
        StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(**TREES))], cv=2),
    ),
    "transformed": (small, TransformedTargetRegressor(Ridge(), transformer=StandardScaler())),
    "means": (own_means, HistGradientBoostingRegressor(**HGB)),
    "neighbours": (small, KNeighborsRegressor(weights="distance")),
}
POSITIVE = {
    "poisson": (small, PoissonRegressor()),
    "gamma": (small, GammaRegressor()),
    "histograms": (coded, HistGradientBoostingRegressor(loss="gamma", **HGB)),
    "logarithm": (
        small,
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    ),
}
STEPS = {
    "polynomial": PolynomialFeatures(2),
    "power": PowerTransformer(),
    "bins": KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"),
    "ordinal_bins": KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    "quantiles": QuantileTransformer(n_quantiles=50),
    "normal_quantiles": QuantileTransformer(n_quantiles=50, output_distribution="normal"),
    "robust": RobustScaler(),
    "max_abs": MaxAbsScaler(),
    "unit_rows": Normalizer(),
    "variance": VarianceThreshold(),
    "best": SelectKBest(k=3),
    "union": FeatureUnion([("a", PCA(2)), ("b", "passthrough")]),
    "identity": FunctionTransformer(),
    "splines": SplineTransformer(),
    "open_splines": SplineTransformer(4, degree=1, extrapolation="linear", knots="quantile"),
    "round_splines": SplineTransformer(5, extrapolation="periodic", include_bias=False),
    "sketch": PolynomialCountSketch(degree=3, coef0=0.5, n_components=11, random_state=0),
}
WITHOUT = {
    "bisecting": (small, BisectingKMeans(5, random_state=0), "clustering"),
    "factor": (small, LocalOutlierFactor(novelty=True), "outlier_detection"),
    "k_means": (small, KMeans(4, n_init=1, random_state=0), "clustering"),
    "shift": (small, MeanShift(bandwidth=3, bin_seeding=True), "clustering"),
    "mixture": (small, GaussianMixture(3, random_state=0), "clustering"),
    "tied": (small, GaussianMixture(3, covariance_type="tied", random_state=0), "clustering"),
    "diagonal": (small, GaussianMixture(3, covariance_type="diag", random_state=0), "clustering"),
    "bayes": (small, BayesianGaussianMixture(n_components=3, random_state=0), "clustering"),
    "isolation": (small, IsolationForest(max_features=0.5, **TREES), "outlier_detection"),
    "isolation_of_one": (small, IsolationForest(max_samples=1, **TREES), "outlier_detection"),
    "ellipse": (small, EllipticEnvelope(random_state=0), "outlier_detection"),
    "one_class": (small, OneClassSVM(), "outlier_detection"),
    "line": (small, SGDOneClassSVM(random_state=0), "outlier_detection"),
    "pca": (small, PCA(3, whiten=True), "decomposition"),
    "svd": (counts, TruncatedSVD(3, random_state=0), "decomposition"),
    "ica": (small, FastICA(3, random_state=0), "decomposition"),
    "factors": (small, FactorAnalysis(2), "decomposition"),
    "nested": (nested, "passthrough", "decomposition"),
}


def cases():
    for name, (prepared, model) in BOTH.items():
        yield Case(name, prepared, model, "two"), None
        yield Case(name, prepared, model, "three"), None
    for target, named in (("two", TWO), ("number", NUMBER), ("positive", POSITIVE)):
        for name, (prepared, model) in named.items():
            yield Case(name, prepared, model, target), None
    for name, step in STEPS.items():
        model = Pipeline([("step", step), ("model", LogisticRegression())])
        yield Case(name, small, model, "three"), None
    for name, (prepared, model, task) in WITHOUT.items():
        yield Case(name, prepared, model, "none"), task


CASES = list(cases())


def compiled(case: Case, task: str | None = None) -> tuple[object, dict, CompileResult]:
    pipeline = case.fitted()
    output = output_of(pipeline, case.target, task)
    with threadpool_limits(1):
        result = compile_and_verify(pipeline, RECIPE, signature_of(output), table())
    return pipeline, output, result


@pytest.mark.parametrize(("case", "task"), CASES, ids=[f"{c.name}-{c.target}" for c, _ in CASES])
def test_a_compiled_model_says_what_scikit_learn_says_on_rows_it_never_saw(case, task):
    pipeline, output, result = compiled(case, task)
    assert result.reason is None
    assert result.verified["label_flips"] == 0
    unseen = table(rows=97, seed=5)
    expected = answer(pipeline, prepare(RECIPE, unseen), output).arrays()
    model = load(result.compiled)
    given = model.score(unseen).arrays()
    assert given.keys() == expected.keys()
    assert all(agree(given[name], expected[name], 1e-9) for name in given)
    few = {name: values[:9] for name, values in unseen.items()}
    assert answered_otherwise_as_a_batch(model, few) == []


REFUSED = [
    (Case("products", scaled, KNeighborsClassifier(weights="distance"), "two"), "matrix products"),
    (Case("code", small, Pipeline([("f", FunctionTransformer(np.sin)), ("m", Ridge())]), "number"),
     "runs code"),
    (Case("lots", small, DummyClassifier(strategy="uniform"), "two"), "draws lots"),
    (Case("heat", small, CalibratedClassifierCV(LinearSVC(), method="temperature"), "two"),
     "calibration by 'temperature'"),
    (Case("start", small, GradientBoostingRegressor(init=Ridge(), **TREES), "number"),
     "starts from a model"),
    (Case("neighbours", small, AdaBoostClassifier(LogisticRegression(), **TREES), "two"),
     "AdaBoost of other members"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "reason"), REFUSED, ids=[case.name for case, _ in REFUSED])
def test_what_has_no_compiled_form_is_refused_with_the_reason(case, reason):
    _, _, result = compiled(case)
    assert result.compiled is None
    assert result.verified is None
    assert reason in result.reason


def test_what_fits_the_rows_of_a_request_together_has_no_compiled_form():
    parts = Pipeline([("positive", MinMaxScaler()), ("parts", NMF(3))])
    reason = compiled(Case("parts", small, parts, "none"), "decomposition")[2].reason
    assert reason.endswith("what it says of a row depends on the rows beside it")


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):  # noqa: N803
        self.fitted_ = True
        return self

    def transform(self, X):  # noqa: N803
        return X * 2


class OtherScaler(StandardScaler):
    def transform(self, X):  # noqa: N803
        return super().transform(X) + 1


@pytest.mark.parametrize("stranger", [Doubled(), OtherScaler()])
def test_classes_of_others_are_not_taken_for_their_bases(stranger):
    model = Pipeline([("stranger", stranger), ("model", Ridge())])
    assert "has no compiled form" in compiled(Case("stranger", small, model, "number"))[2].reason


def test_forests_beyond_the_limit_of_nodes_are_refused():
    pipeline = Case("forest", coded, RandomForestClassifier(**TREES), "two").fitted()
    with pytest.raises(NotCompilable, match="more than 100 nodes"):
        compile_pipeline(pipeline, RECIPE, output_of(pipeline, "two"), node_limit=100)


def test_classes_in_another_order_than_the_signature_are_refused():
    pipeline = Case("logistic", scaled, LogisticRegression(), "two").fitted()
    output = {"task": "classification", "classes": [True, False], "probabilities": True}
    result = compile_and_verify(pipeline, RECIPE, signature_of(output), table())
    assert "not those of the pipeline" in result.reason


def test_a_recipe_that_leaves_out_a_used_column_is_refused():
    pipeline = Case("logistic", scaled, LogisticRegression(), "two").fitted()
    other = Recipe.from_list(RECIPE.as_list()[1:])
    with pytest.raises(NotCompilable, match="leaves out"):
        compile_pipeline(pipeline, other, output_of(pipeline, "two"))


def test_a_recipe_in_another_order_says_the_same():
    pipeline = Case("logistic", scaled, LogisticRegression(), "two").fitted()
    other = Recipe.from_list([*RECIPE.as_list()[1:], RECIPE.as_list()[0]])
    result = compile_and_verify(pipeline, other, signature_of(output_of(pipeline, "two")), table())
    assert result.reason is None


def test_a_defect_of_the_compiler_costs_only_the_compiled_form(monkeypatch, caplog):
    monkeypatch.setattr("app.compiling.linear.affine", lambda *_: 1 / 0)
    _, _, result = compiled(Case("logistic", scaled, LogisticRegression(), "two"))
    assert result.compiled is None
    assert "ZeroDivisionError" in result.reason
    assert "compiling failed" in caplog.text


def test_the_same_model_gives_the_same_bytes():
    case = Case("forest", coded, RandomForestClassifier(**TREES), "three")
    _, _, first = compiled(case)
    _, _, second = compiled(case)
    assert first.compiled == second.compiled == save(load(first.compiled))


def test_categories_of_histogram_boosting_itself_are_compiled():
    columns = ["level_code", "price"]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepared = ColumnTransformer(
        [("codes", codes, ["island", "level"]), ("numbers", "passthrough", ["price", "mass"])]
    )
    boosting = HistGradientBoostingClassifier(categorical_features=[0, 1], **HGB)
    assert compiled(Case(str(columns), lambda: prepared, boosting, "three"))[2].reason is None


def test_an_encoder_that_raises_for_unknown_categories_is_compiled_to_one_that_refuses():
    strict = ColumnTransformer(
        [("categories", OneHotEncoder(), ["island"]), ("numbers", "passthrough", ["price"])]
    )
    assert compiled(Case("strict", lambda: strict, LogisticRegression(), "two"))[2].reason is None


def test_a_model_that_copes_with_nothing_missing_refuses_it():
    gappy = ColumnTransformer([("numbers", "passthrough", ["price", "flag"])])
    assert compiled(Case("gappy", lambda: gappy, Ridge(), "number"))[2].reason is None


def test_a_power_that_is_beyond_all_numbers_is_refused():
    """The bug: a logistic function made 0 or 1 of it, so that such pipelines weren't compiled."""
    narrow = Pipeline([("narrow", MinMaxScaler((0, 0.01))), ("power", PowerTransformer())])
    model = Pipeline([("narrow", narrow), ("model", LogisticRegression())])
    _, _, result = compiled(Case("power", small, model, "two"))
    assert result.reason is None
    far = {
        name: [*values[:1], -1e200 if name == "price" else values[1]]
        for name, values in table().items()
    }
    with pytest.raises(Invalid, match="too far out"):
        load(result.compiled).score(far)


def test_strings_where_a_model_needs_numbers_are_named():
    pipeline = Case("logistic", scaled, LogisticRegression(), "two").fitted()[-1:]
    with pytest.raises(NotCompilable, match="'island'"):
        compile_pipeline(pipeline, RECIPE, output_of(pipeline, "two"))


def test_everything_of_the_factory_is_deterministic():
    assert frame().equals(frame())
    assert targets()["two"].sum() == len(table()["mass"]) // 2
    assert TfidfVectorizer().fit(["a bc"]).vocabulary_ == {"bc": 0}
