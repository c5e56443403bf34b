"""Compiling models that are sums of weighted columns, up to a link."""

from typing import Any

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import LinearSVC, LinearSVR

from app.compiling.encoders import floats
from app.compiling.flow import (
    Flow,
    NotCompilable,
    Plan,
    inner,
    matrix_for,
    predicts,
)
from app.scoring.cores import (
    Affine,
    Constant,
    JudgeMany,
    JudgeTwo,
    Mixture,
    NormalLikelihood,
    Values,
)
from app.scoring.cores import Perceptron as Layers
from app.scoring.numbers import Binarize, Project, Scale
from app.scoring.step import Step

REGRESSORS = (
    *(ARDRegression, BayesianRidge, ElasticNet, ElasticNetCV, HuberRegressor, Lars, LarsCV),
    *(Lasso, LassoCV, LassoLars, LassoLarsCV, LassoLarsIC, LinearRegression, LinearSVR),
    *(OrthogonalMatchingPursuit, OrthogonalMatchingPursuitCV, QuantileRegressor, Ridge, RidgeCV),
    *(SGDRegressor, TheilSenRegressor),
)


def affine(coefficients: Any, intercept: Any) -> Affine:
    """``x @ coefficients.T + intercept``, where one output may have a flat array of weights."""
    rows = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    bias = np.broadcast_to(np.asarray(intercept, dtype=np.float64), (len(rows),))
    return Affine(floats(rows.T), floats(bias))


def judge(outputs: int, link_of_two: str | None, link_of_many: str | None) -> Step:
    """The rule for one score, which is that of the second class, or for one score per class."""
    return JudgeTwo(link_of_two) if outputs == 1 else JudgeMany(link_of_many)


def scored(
    estimator: Any, flow: Flow, plan: Plan, link_of_two: str | None, link_of_many: str | None
) -> list[Step]:
    """A linear classifier with these links."""
    steps, _ = matrix_for(estimator, flow, plan)
    scores = affine(estimator.coef_, estimator.intercept_)
    return [*steps, scores, judge(scores.weights.shape[1], link_of_two, link_of_many)]


@predicts(LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis)
def build_logistic(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """Linear scores, to probabilities by the logistic function or softmax."""
    return scored(estimator, flow, plan, "logistic", "softmax")


@predicts(LinearSVC, Perceptron, RidgeClassifier, RidgeClassifierCV)
def build_linear_classifier(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """Linear scores, without probabilities."""
    return scored(estimator, flow, plan, None, None)


@predicts(SGDClassifier)
def build_sgd_classifier(estimator: SGDClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """Linear scores, with probabilities for the two losses that give them."""
    links = {"log_loss": ("logistic", "one_vs_rest"), "modified_huber": ("clipped", "clipped")}
    return scored(estimator, flow, plan, *links.get(estimator.loss, (None, None)))


@predicts(*REGRESSORS)
def build_linear_regressor(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A linear value."""
    steps, _ = matrix_for(estimator, flow, plan)
    return [*steps, affine(estimator.coef_, estimator.intercept_), Values()]


@predicts(GammaRegressor, PoissonRegressor, TweedieRegressor)
def build_generalized(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A linear value, through the inverse of the link of the loss."""
    steps, _ = matrix_for(estimator, flow, plan)
    link = link_of(inner(estimator, "_base_loss"))
    return [*steps, affine(estimator.coef_, estimator.intercept_), Values(link)]


def link_of(loss: Any) -> str:
    """The inverse of the link of one of scikit-learn's losses, by the name that steps know."""
    links = {"IdentityLink": "identity", "LogLink": "exp", "LogitLink": "logistic"}
    name = type(loss.link).__name__
    if name not in links:
        raise NotCompilable(f"the link {name} has no compiled form")
    return links[name]


@predicts(PLSRegression)
def build_partial_least_squares(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A linear value of centred columns."""
    steps, _ = matrix_for(estimator, flow, plan)
    centred = Scale(floats(inner(estimator, "_x_mean")), None)
    return [*steps, centred, affine(estimator.coef_, estimator.intercept_), Values()]


@predicts(SGDOneClassSVM)
def build_one_class(estimator: SGDOneClassSVM, flow: Flow, plan: Plan) -> list[Step]:
    """A linear decision: below 0 is an outlier."""
    steps, _ = matrix_for(estimator, flow, plan)
    return [*steps, affine(estimator.coef_, -estimator.offset_), Values()]


@predicts(GaussianNB)
def build_gaussian(estimator: GaussianNB, flow: Flow, plan: Plan) -> list[Step]:
    """Naive Bayes of normal distributions."""
    steps, flow = matrix_for(estimator, flow, plan)
    plan.widen(flow.width * len(estimator.classes_))
    constants = np.log(estimator.class_prior_)
    constants = constants - 0.5 * np.log(2.0 * np.pi * estimator.var_).sum(axis=1)
    likelihood = NormalLikelihood(floats(estimator.theta_), floats(estimator.var_), constants)
    return [*steps, likelihood, JudgeMany("likelihoods")]


@predicts(MultinomialNB, ComplementNB)
def build_counted(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """Naive Bayes of counts."""
    steps, _ = matrix_for(estimator, flow, plan)
    alone = isinstance(estimator, ComplementNB) and len(estimator.classes_) > 1
    bias = np.zeros(len(estimator.classes_)) if alone else estimator.class_log_prior_
    return [*steps, affine(estimator.feature_log_prob_, bias), JudgeMany("likelihoods")]


@predicts(BernoulliNB)
def build_bernoulli(estimator: BernoulliNB, flow: Flow, plan: Plan) -> list[Step]:
    """Naive Bayes of yes and no."""
    steps, _ = matrix_for(estimator, flow, plan)
    if estimator.binarize is not None:
        steps = [*steps, Binarize(float(estimator.binarize))]
    absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    bias = estimator.class_log_prior_ + absent.sum(axis=1)
    return [*steps, affine(estimator.feature_log_prob_ - absent, bias), JudgeMany("likelihoods")]


@predicts(QuadraticDiscriminantAnalysis)
def build_quadratic(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A normal distribution with its own covariance for each class."""
    steps, _ = matrix_for(estimator, flow, plan)
    parts = list(zip(estimator.rotations_, estimator.scalings_, strict=True))
    if len({rotation.shape for rotation, _ in parts}) > 1:
        raise NotCompilable("a QuadraticDiscriminantAnalysis of classes of different rank")
    roots = np.stack([rotation * scaling**-0.5 for rotation, scaling in parts])
    constants = np.log(estimator.priors_)
    constants = constants - 0.5 * np.array([np.log(scaling).sum() for _, scaling in parts])
    mixture = Mixture(floats(estimator.means_), floats(roots), constants)
    if len(parts) == 2:
        margin = Project(np.array([[-1.0], [1.0]]))
        return [*steps, mixture, margin, JudgeTwo("logistic")]
    return [*steps, mixture, JudgeMany("softmax")]


@predicts(MLPClassifier)
def build_mlp_classifier(estimator: MLPClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """A multilayer perceptron that ends in a logistic function or softmax."""
    steps = _layers(estimator, flow, plan)
    if estimator.out_activation_ == "softmax":
        return [*steps, JudgeMany("softmax")]
    if estimator.out_activation_ != "logistic" or estimator.n_outputs_ != 1:
        raise NotCompilable("a perceptron with several labels has no compiled form")
    return [*steps, JudgeTwo("logistic", threshold=0.5, by_probability=True)]


@predicts(MLPRegressor)
def build_mlp_regressor(estimator: MLPRegressor, flow: Flow, plan: Plan) -> list[Step]:
    """A multilayer perceptron that ends in a value."""
    links = {"identity": "identity", "exp": "exp"}
    if estimator.out_activation_ not in links:
        raise NotCompilable(f"the activation {estimator.out_activation_!r} of the output")
    return [*_layers(estimator, flow, plan), Values(links[estimator.out_activation_])]


def _layers(estimator: Any, flow: Flow, plan: Plan) -> list[Step]:
    steps, _ = matrix_for(estimator, flow, plan)
    for weights in estimator.coefs_:
        plan.widen(weights.shape[1])
    weights = [floats(layer) for layer in estimator.coefs_]
    biases = [floats(layer) for layer in estimator.intercepts_]
    return [*steps, Layers(weights, biases, estimator.activation)]


@predicts(DummyClassifier)
def build_dummy_classifier(estimator: DummyClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """The same for every row."""
    del flow, plan
    if estimator.strategy not in {"prior", "most_frequent", "constant"}:
        raise NotCompilable(f"a DummyClassifier that draws lots ({estimator.strategy})")
    shares = estimator.predict_proba(np.zeros((1, estimator.n_features_in_)))[0]
    return [Constant(floats(shares)), JudgeMany("identity")]


@predicts(DummyRegressor)
def build_dummy_regressor(estimator: DummyRegressor, flow: Flow, plan: Plan) -> list[Step]:
    """The same for every row."""
    del flow, plan
    return [Constant(floats(np.ravel(estimator.constant_))), Values()]
